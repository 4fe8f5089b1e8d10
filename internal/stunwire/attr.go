package stunwire

import "fmt"

// An Attr is the type of an attribute.
type Attr uint16

// Required says whether a receiver that does not know the attribute must
// refuse the message (RFC 8489 Section 14).
func (a Attr) Required() bool { return a < 0x8000 }

// The attributes: comprehension-required ones first, then the optional ones.
const (
	AttrMappedAddress          Attr = 0x0001 // RFC 8489
	AttrChangeRequest          Attr = 0x0003 // RFC 5780
	AttrUsername               Attr = 0x0006 // RFC 8489
	AttrMessageIntegrity       Attr = 0x0008 // RFC 8489
	AttrErrorCode              Attr = 0x0009 // RFC 8489
	AttrUnknownAttributes      Attr = 0x000A // RFC 8489
	AttrChannelNumber          Attr = 0x000C // RFC 8656
	AttrLifetime               Attr = 0x000D // RFC 8656, seconds
	AttrXORPeerAddress         Attr = 0x0012 // RFC 8656
	AttrData                   Attr = 0x0013 // RFC 8656
	AttrRealm                  Attr = 0x0014 // RFC 8489
	AttrNonce                  Attr = 0x0015 // RFC 8489
	AttrXORRelayedAddress      Attr = 0x0016 // RFC 8656
	AttrRequestedAddressFamily Attr = 0x0017 // RFC 8656
	AttrEvenPort               Attr = 0x0018 // RFC 8656
	AttrRequestedTransport     Attr = 0x0019 // RFC 8656
	AttrDontFragment           Attr = 0x001A // RFC 8656
	AttrAccessToken            Attr = 0x001B // RFC 7635
	AttrMessageIntegritySHA256 Attr = 0x001C // RFC 8489
	AttrPasswordAlgorithm      Attr = 0x001D // RFC 8489
	AttrUserHash               Attr = 0x001E // RFC 8489
	AttrXORMappedAddress       Attr = 0x0020 // RFC 8489
	AttrReservationToken       Attr = 0x0022 // RFC 8656
	AttrPriority               Attr = 0x0024 // RFC 8445
	AttrUseCandidate           Attr = 0x0025 // RFC 8445
	AttrPadding                Attr = 0x0026 // RFC 5780
	AttrResponsePort           Attr = 0x0027 // RFC 5780
	AttrConnectionID           Attr = 0x002A // RFC 6062

	AttrAdditionalAddressFamily Attr = 0x8000 // RFC 8656
	AttrAddressErrorCode        Attr = 0x8001 // RFC 8656
	AttrPasswordAlgorithms      Attr = 0x8002 // RFC 8489
	AttrAlternateDomain         Attr = 0x8003 // RFC 8489
	AttrICMP                    Attr = 0x8004 // RFC 8656
	AttrBandwidth               Attr = 0x8010 // draft-thomson-tram-turn-bandwidth, kilobits a second
	AttrSoftware                Attr = 0x8022 // RFC 8489
	AttrAlternateServer         Attr = 0x8023 // RFC 8489
	AttrCacheTimeout            Attr = 0x8027 // RFC 5780
	AttrFingerprint             Attr = 0x8028 // RFC 8489
	AttrICEControlled           Attr = 0x8029 // RFC 8445
	AttrICEControlling          Attr = 0x802A // RFC 8445
	AttrResponseOrigin          Attr = 0x802B // RFC 5780
	AttrOtherAddress            Attr = 0x802C // RFC 5780
	AttrThirdPartyAuthorization Attr = 0x802E // RFC 7635
	AttrOrigin                  Attr = 0x802F // draft-ietf-tram-stun-origin
	AttrMobilityTicket          Attr = 0x8030 // RFC 8016
)

// Known says whether the attribute is one of those above.
func (a Attr) Known() bool { return attrName(a) != "" }

// String is the attribute's name in its RFC.
func (a Attr) String() string {
	if s := attrName(a); s != "" {
		return s
	}
	return fmt.Sprintf("attribute 0x%04x", uint16(a))
}

func attrName(a Attr) string {
	switch a {
	case AttrMappedAddress:
		return "MAPPED-ADDRESS"
	case AttrChangeRequest:
		return "CHANGE-REQUEST"
	case AttrUsername:
		return "USERNAME"
	case AttrMessageIntegrity:
		return "MESSAGE-INTEGRITY"
	case AttrErrorCode:
		return "ERROR-CODE"
	case AttrUnknownAttributes:
		return "UNKNOWN-ATTRIBUTES"
	case AttrChannelNumber:
		return "CHANNEL-NUMBER"
	case AttrLifetime:
		return "LIFETIME"
	case AttrXORPeerAddress:
		return "XOR-PEER-ADDRESS"
	case AttrData:
		return "DATA"
	case AttrRealm:
		return "REALM"
	case AttrNonce:
		return "NONCE"
	case AttrXORRelayedAddress:
		return "XOR-RELAYED-ADDRESS"
	case AttrRequestedAddressFamily:
		return "REQUESTED-ADDRESS-FAMILY"
	case AttrEvenPort:
		return "EVEN-PORT"
	case AttrRequestedTransport:
		return "REQUESTED-TRANSPORT"
	case AttrDontFragment:
		return "DONT-FRAGMENT"
	case AttrAccessToken:
		return "ACCESS-TOKEN"
	case AttrMessageIntegritySHA256:
		return "MESSAGE-INTEGRITY-SHA256"
	case AttrPasswordAlgorithm:
		return "PASSWORD-ALGORITHM"
	case AttrUserHash:
		return "USERHASH"
	case AttrXORMappedAddress:
		return "XOR-MAPPED-ADDRESS"
	case AttrReservationToken:
		return "RESERVATION-TOKEN"
	case AttrPriority:
		return "PRIORITY"
	case AttrUseCandidate:
		return "USE-CANDIDATE"
	case AttrPadding:
		return "PADDING"
	case AttrResponsePort:
		return "RESPONSE-PORT"
	case AttrConnectionID:
		return "CONNECTION-ID"
	case AttrAdditionalAddressFamily:
		return "ADDITIONAL-ADDRESS-FAMILY"
	case AttrAddressErrorCode:
		return "ADDRESS-ERROR-CODE"
	case AttrPasswordAlgorithms:
		return "PASSWORD-ALGORITHMS"
	case AttrAlternateDomain:
		return "ALTERNATE-DOMAIN"
	case AttrICMP:
		return "ICMP"
	case AttrBandwidth:
		return "BANDWIDTH"
	case AttrSoftware:
		return "SOFTWARE"
	case AttrAlternateServer:
		return "ALTERNATE-SERVER"
	case AttrCacheTimeout:
		return "CACHE-TIMEOUT"
	case AttrFingerprint:
		return "FINGERPRINT"
	case AttrICEControlled:
		return "ICE-CONTROLLED"
	case AttrICEControlling:
		return "ICE-CONTROLLING"
	case AttrResponseOrigin:
		return "RESPONSE-ORIGIN"
	case AttrOtherAddress:
		return "OTHER-ADDRESS"
	case AttrThirdPartyAuthorization:
		return "THIRD-PARTY-AUTHORIZATION"
	case AttrOrigin:
		return "ORIGIN"
	case AttrMobilityTicket:
		return "MOBILITY-TICKET"
	}
	return ""
}
