package stun

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// serveNATWire runs a server for discovery on the wire.
func serveNATWire(t *testing.T, w *wire) *Server {
	var sockets [4]net.PacketConn
	for i, a := range testAddrs {
		sockets[i] = w.listen(a.String())
	}
	s := new(Server)
	ended := make(chan error, 1)
	go func() { ended <- s.ServeNAT(sockets) }()
	t.Cleanup(func() {
		s.Close()
		require.ErrorIs(t, <-ended, ErrServerClosed)
	})
	synctest.Wait()
	return s
}

// TestDiscover finds out each kind of NAT there is.
func TestDiscover(t *testing.T) {
	all := []Behavior{EndpointIndependent, AddressDependent, AddressAndPortDependent}
	for _, mapping := range all {
		for _, filtering := range all {
			for _, hairpin := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					w := newWire()
					serveNATWire(t, w)
					nat := w.newNAT("203.0.113.1", mapping, filtering)
					nat.hairpin = hairpin
					pc, second := w.listenBehind("10.0.0.1:1000", nat), w.listenBehind("10.0.0.1:1001", nat)
					defer pc.Close()
					defer second.Close()
					start := time.Now()
					got, err := Discover(t.Context(), pc, testAddrs[Primary], &DiscoverOptions{Hairpin: second})
					require.NoError(t, err)
					require.Equal(t, NAT{
						Local: pc.at, Mapped: netip.MustParseAddrPort("203.0.113.1:50001"), Translated: true,
						Mapping: mapping, Filtering: filtering, Hairpin: hairpin,
					}, *got, "%v %v", mapping, filtering)
					require.LessOrEqual(t, time.Since(start), 3*3500*time.Millisecond)
				})
			}
		}
	}
}

func TestDiscoverWithout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		serveNATWire(t, w)
		serveWire(t, w, "10.0.0.2:3478", Responder{})
		pc := w.listen("10.0.0.1:1000")
		defer pc.Close()

		got, err := Discover(t.Context(), pc, testAddrs[Alternate], nil)
		require.NoError(t, err)
		require.Equal(t, NAT{Local: pc.at, Mapped: pc.at, Mapping: EndpointIndependent, Filtering: EndpointIndependent}, *got)

		_, err = Discover(t.Context(), pc, netip.MustParseAddrPort("10.0.0.2:3478"), nil)
		require.ErrorIs(t, err, ErrNoDiscovery)
		_, err = Discover(t.Context(), pc, netip.MustParseAddrPort("10.0.0.3:3478"), nil)
		require.ErrorIs(t, err, ErrTimeout)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = Discover(ctx, pc, netip.MustParseAddrPort("10.0.0.3:3478"), nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)

		// A firewall without translation filters too.
		w.meddle = func(from, to netip.AddrPort, b []byte) []byte {
			if to == pc.at && from != testAddrs[Primary] {
				return nil
			}
			return b
		}
		got, err = Discover(t.Context(), pc, testAddrs[Primary], &DiscoverOptions{Padding: 1000})
		require.NoError(t, err)
		require.Equal(t, AddressAndPortDependent, got.Filtering)
		require.Equal(t, EndpointIndependent, got.Mapping)
	})
}

// TestDiscoverLies: a server that can't have two addresses, or ignores what it
// is asked, is no witness.
func TestDiscoverLies(t *testing.T) {
	for name, test := range map[string]func(a stunwire.Attr, v []byte) []byte{
		"its own address": func(a stunwire.Attr, v []byte) []byte {
			if a == stunwire.AttrOtherAddress {
				return []byte{0, 1, 0x0D, 0x97, 198, 51, 100, 1}
			}
			return v
		},
		"its own port": func(a stunwire.Attr, v []byte) []byte {
			if a == stunwire.AttrOtherAddress {
				return []byte{0, 1, 0x0D, 0x96, 198, 51, 100, 2}
			}
			return v
		},
		"another family": func(a stunwire.Attr, v []byte) []byte {
			if a == stunwire.AttrOtherAddress {
				return append([]byte{0, 2, 0x0D, 0x97}, make([]byte, 16)...)
			}
			return v
		},
		"no address": func(a stunwire.Attr, v []byte) []byte {
			if a == stunwire.AttrOtherAddress {
				return []byte{1}
			}
			return v
		},
		"deaf": func(a stunwire.Attr, v []byte) []byte {
			if a == stunwire.AttrChangeRequest {
				return nil
			}
			return v
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWire()
			serveNATWire(t, w)
			pc := w.listen("10.0.0.1:1000")
			defer pc.Close()
			w.meddle = func(_, _ netip.AddrPort, b []byte) []byte { return rebuild(b, test) }
			_, err := Discover(t.Context(), pc, testAddrs[Primary], nil)
			require.Error(t, err, name)
			if name != "no address" {
				require.ErrorIs(t, err, ErrNoDiscovery, name)
			}
		})
	}
}
