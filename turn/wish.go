package turn

import "github.com/runnel-media/runnel/internal/stunwire"

// wish is what an Allocate asks for.
type wish struct {
	network  uint8   // protocolUDP or protocolTCP
	families []uint8 // one, or both for a dual allocation
	dual     bool
	even     bool
	reserve  bool // the next port, too
	token    *reservationToken
	mobility bool
	seconds  uint32
	bitRate  int64 // BANDWIDTH; 0: none
}

// What RFC 8656's ADDITIONAL-ADDRESS-FAMILY and ADDRESS-ERROR-CODE were in the
// drafts before it, which clients of coturn up to 4.6 still send.
const (
	attrDraftAdditionalFamily = stunwire.Attr(0x8032)
	attrDraftAddressErrorCode = stunwire.Attr(0x8033)
)

// readWish reads an Allocate in the order of RFC 8656 Section 7.2, and returns
// the error code if it can't be fulfilled.
func (r *request) readWish() (w wish, code int) {
	m, p := r.msg, r.policy
	v, ok := m.Get(stunwire.AttrRequestedTransport)
	if !ok || len(v) != 4 {
		return w, 400
	}
	switch w.network = v[0]; {
	case w.network == protocolUDP && !p.NoUDP:
	case w.network == protocolTCP && !p.NoTCP:
		if r.path.stream == nil { // RFC 6062 Section 5.1
			return w, 400
		}
	default:
		return w, 442
	}
	if m.Has(stunwire.AttrDontFragment) && w.network == protocolTCP {
		return w, 400
	}
	family, hasFamily := m.Get(stunwire.AttrRequestedAddressFamily)
	more, hasMore := m.Get(stunwire.AttrAdditionalAddressFamily)
	if !hasMore {
		more, hasMore = m.Get(attrDraftAdditionalFamily)
	}
	token, hasToken := m.Get(stunwire.AttrReservationToken)
	even, hasEven := m.Get(stunwire.AttrEvenPort)
	switch {
	case hasFamily && len(family) != 4, hasMore && (len(more) != 4 || more[0] != familyIPv6),
		hasFamily && hasMore,
		hasToken && (len(token) != len(reservationToken{}) || hasEven || hasFamily || hasMore),
		hasEven && len(even) != 1,
		(hasEven || hasToken) && w.network == protocolTCP:
		return w, 400
	case hasFamily && family[0] != familyIPv4 && family[0] != familyIPv6:
		return w, 440
	}
	switch {
	case hasMore:
		w.families, w.dual = []uint8{familyIPv4, familyIPv6}, true
	case hasFamily:
		w.families = []uint8{family[0]}
	case p.ClientFamily && r.path.remote.Addr().Is6():
		w.families = []uint8{familyIPv6}
	default:
		w.families = []uint8{familyIPv4}
	}
	if hasEven {
		w.even, w.reserve = true, even[0]&0x80 != 0
		if w.reserve && w.dual {
			return w, 400
		}
	}
	if hasToken {
		w.token = (*reservationToken)(token)
	}
	if ticket, ok := m.Get(stunwire.AttrMobilityTicket); ok {
		switch { // RFC 8016 Section 3.1.2
		case len(ticket) != 0:
			return w, 400
		case !p.Mobility || r.cred.key == nil:
			return w, 405
		}
		w.mobility = true
	}
	w.seconds, _ = m.Uint32(stunwire.AttrLifetime)
	if kilobits, ok := m.Uint32(stunwire.AttrBandwidth); ok {
		w.bitRate = int64(kilobits) * 1000
	}
	return w, 0
}
