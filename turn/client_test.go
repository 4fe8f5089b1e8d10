package turn

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/stunwire"
	"github.com/runnel-media/runnel/stun"
)

// TestClientRetransmission: RFC 8489 Section 6.2.1, to the millisecond.
func TestClientRetransmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scriptServer{silence: true}
		_, err := s.client().Allocate(t.Context(), nil)
		require.ErrorIs(t, err, ErrNoAnswer)
		require.Equal(t, []int{0, 500, 1500, 3500, 7500, 15500, 31500}, s.times(stunwire.Allocate))
		require.Equal(t, 39500*time.Millisecond, time.Since(s.started))
		require.Equal(t, []string{"turn.example.org:3478"}, s.dialed)
	})
}

func TestClientKeepsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scriptServer{}
		p, err := s.client().Allocate(t.Context(), nil)
		require.NoError(t, err)
		require.Equal(t, "198.51.100.1:50000", p.LocalAddr().String())
		require.Equal(t, "203.0.113.9:4000", p.Mapped().String())
		require.Equal(t, []int{0, 0}, s.times(stunwire.Allocate), "the second one has the credential")

		_, err = p.WriteToAddrPort([]byte("one"), scriptPeer)
		require.NoError(t, err)
		synctest.Wait()
		require.Len(t, s.times(stunwire.Send), 1, "the first goes as an indication")
		_, err = p.WriteToAddrPort([]byte("two"), scriptPeer)
		require.NoError(t, err)
		require.Len(t, s.times(0), 1, "the second on a channel")
		require.Equal(t, map[uint16]netip.AddrPort{0x4000: scriptPeer}, s.bound)
		require.NoError(t, p.Permit(t.Context(), netip.MustParseAddr("192.0.2.99")))

		// In use until the first renewal, idle for the second, gone with it.
		time.Sleep(time.Hour - time.Second)
		synctest.Wait()
		require.Equal(t, []int{0, 240_000}, s.times(stunwire.ChannelBind))
		permissions := s.times(stunwire.CreatePermission)
		require.Equal(t, []int{0, 0, 240_000, 480_000, 720_000}, permissions[:5], "one peer was asked for by Permit and stays")
		require.Len(t, permissions, 2+14)
		require.Equal(t, []int{540_000, 1_080_000, 1_620_000, 2_160_000, 2_700_000, 3_240_000}, s.times(stunwire.Refresh))

		// The peer is asked for anew, and keeps its channel.
		_, err = p.WriteToAddrPort([]byte("three"), scriptPeer)
		require.NoError(t, err)
		synctest.Wait()
		require.Len(t, s.times(stunwire.CreatePermission), 2+14+1)
		require.Equal(t, map[uint16]netip.AddrPort{0x4000: scriptPeer}, s.bound)

		require.NoError(t, p.Close())
		life, _ := s.last(t, stunwire.Refresh).Uint32(stunwire.AttrLifetime)
		require.Zero(t, life, "the allocation is given back")
		require.NoError(t, p.Close())
	})
}

func TestClientLosesAllocation(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(*scriptServer, *stunwire.Message) []byte
		want   error
		after  time.Duration
	}{
		"437": {func(s *scriptServer, m *stunwire.Message) []byte { return s.refuse(m, 437) }, ErrNoAllocation, 541 * time.Second},
		// The attempts of 540 s and 584.5 s get no answer; the second ends after the allocation.
		"silence": {func(*scriptServer, *stunwire.Message) []byte { return nil }, ErrNoAnswer, 625 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &scriptServer{}
				p, err := s.client().Allocate(t.Context(), nil)
				require.NoError(t, err)
				s.set(func() { s.answer = c.answer })
				_, _, err = p.ReadFrom(make([]byte, 10))
				require.ErrorIs(t, err, c.want)
				require.Less(t, time.Since(s.started), c.after)
				_, err = p.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(scriptPeer))
				require.ErrorIs(t, err, c.want)
			})
		})
	}
}

// TestClientStaleNonce: a 438 is answered, at any request.
func TestClientStaleNonce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scriptServer{}
		p, err := s.client().Allocate(t.Context(), nil)
		require.NoError(t, err)
		s.set(func() { s.nonce = "another" })
		require.NoError(t, p.Permit(t.Context(), scriptPeer.Addr()))
		require.Len(t, s.times(stunwire.CreatePermission), 2)
		require.NoError(t, p.Close())
	})
}

// TestClientSHA256: with a server of RFC 8489 only MESSAGE-INTEGRITY-SHA256
// goes out, and the user's name only as a hash.
func TestClientSHA256(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scriptServer{sha256: true, nonce: (stun.PasswordAlgorithms | stun.UsernameAnonymity).Cookie() + "rest"}
		p, err := s.client().Allocate(t.Context(), nil)
		require.NoError(t, err)
		m := s.last(t, stunwire.Allocate)
		require.False(t, m.Has(stunwire.AttrUsername))
		require.False(t, m.Has(stunwire.AttrMessageIntegrity))
		h := stunwire.UserHash("user", "realm")
		got, _ := m.Get(stunwire.AttrUserHash)
		require.Equal(t, h[:], got)
		got, _ = m.Get(stunwire.AttrPasswordAlgorithm)
		require.Equal(t, []byte{0, 2, 0, 0}, got)
		got, _ = m.Get(stunwire.AttrPasswordAlgorithms)
		require.Equal(t, []byte{0, 2, 0, 0, 0, 1, 0, 0}, got)
		require.NoError(t, p.Close())
	})
}

// TestClientBidDown: who takes PASSWORD-ALGORITHMS out of a challenge does not
// get an answer that is easier to break (RFC 8489 Section 9.2.5).
func TestClientBidDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scriptServer{nonce: stun.PasswordAlgorithms.Cookie() + "rest"}
		_, err := s.client().Allocate(t.Context(), nil)
		require.ErrorIs(t, err, ErrProtocol)
		require.Len(t, s.times(stunwire.Allocate), 1)
	})
}

// TestClientForgery: a success that does not prove the key is no answer.
func TestClientForgery(t *testing.T) {
	for name, forge := range map[string]func(*scriptServer, *stunwire.Message) []byte{
		"no integrity": func(s *scriptServer, m *stunwire.Message) []byte {
			b := stunwire.Build(nil, stunwire.NewType(stunwire.Allocate, stunwire.Success), m.TxID)
			b.AddXORAddr(stunwire.AttrXORRelayedAddress, scriptPeer)
			b.AddUint32(stunwire.AttrLifetime, 600)
			return b.Bytes()
		},
		"wrong key": func(s *scriptServer, m *stunwire.Message) []byte {
			s.key = stunwire.NewKey([]byte("other"))
			return s.succeed(m, func(b *stunwire.Builder) {
				b.AddXORAddr(stunwire.AttrXORRelayedAddress, scriptPeer)
				b.AddUint32(stunwire.AttrLifetime, 600)
			})
		},
		"wrong key, refusal": func(s *scriptServer, m *stunwire.Message) []byte {
			b := stunwire.Build(nil, stunwire.NewType(stunwire.Allocate, stunwire.Error), m.TxID)
			b.AddError(486, "")
			b.AddIntegrity(stunwire.NewKey([]byte("other")))
			return b.Bytes()
		},
		"other transaction": func(s *scriptServer, m *stunwire.Message) []byte {
			other := *m
			other.TxID[0]++
			return s.serve(&other)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &scriptServer{}
				s.answer = func(s *scriptServer, m *stunwire.Message) []byte {
					if !m.Has(stunwire.AttrNonce) {
						return s.serve(m)
					}
					return forge(s, m)
				}
				_, err := s.client().Allocate(t.Context(), nil)
				require.ErrorIs(t, err, ErrNoAnswer)
			})
		})
	}
}

// TestClientMalformed: an authentic answer that lacks what it must have.
func TestClientMalformed(t *testing.T) {
	for name, add := range map[string]func(b *stunwire.Builder){
		"empty":       func(*stunwire.Builder) {},
		"no lifetime": func(b *stunwire.Builder) { b.AddXORAddr(stunwire.AttrXORRelayedAddress, scriptPeer) },
		"no address":  func(b *stunwire.Builder) { b.AddUint32(stunwire.AttrLifetime, 600) },
		"short address": func(b *stunwire.Builder) {
			b.AddUint32(stunwire.AttrLifetime, 600)
			b.AddUint32(stunwire.AttrXORRelayedAddress, 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &scriptServer{answer: func(s *scriptServer, m *stunwire.Message) []byte {
					if m.Has(stunwire.AttrNonce) && m.Type.Method() == stunwire.Allocate {
						return s.succeed(m, add)
					}
					return s.serve(m)
				}}
				_, err := s.client().Allocate(t.Context(), nil)
				require.Error(t, err)
			})
		})
	}
}

func TestClientRedirect(t *testing.T) {
	redirect := func(s *scriptServer, m *stunwire.Message) []byte {
		b := stunwire.Build(nil, stunwire.NewType(m.Type.Method(), stunwire.Error), m.TxID)
		b.AddError(300, "")
		b.AddAddr(stunwire.AttrAlternateServer, netip.MustParseAddrPort("192.0.2.3:3479"))
		b.AddString(stunwire.AttrAlternateDomain, "other.example.org")
		return b.Bytes()
	}
	t.Run("once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &scriptServer{}
			s.answer = func(s *scriptServer, m *stunwire.Message) []byte {
				if len(s.conns) == 1 {
					return redirect(s, m)
				}
				return s.serve(m)
			}
			p, err := s.client().Allocate(t.Context(), nil)
			require.NoError(t, err)
			require.Equal(t, []string{"turn.example.org:3478", "192.0.2.3:3479"}, s.dialed)
			require.Equal(t, "other.example.org", p.session.Load().target.domain)
			require.NoError(t, p.Close())
		})
	})
	t.Run("for ever", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &scriptServer{answer: redirect}
			_, err := s.client().Allocate(t.Context(), nil)
			require.ErrorIs(t, err, errRedirects)
			require.Len(t, s.dialed, maxRedirects)
		})
	})
}

func TestClientTLSName(t *testing.T) {
	c := &Client{Server: "turn.example.org:5349"}
	require.Equal(t, "turn.example.org", c.tlsConfig(clientTarget{}).ServerName)
	require.Equal(t, []string{"stun.turn"}, c.tlsConfig(clientTarget{}).NextProtos)
	require.Equal(t, "b.example.org", c.tlsConfig(clientTarget{domain: "b.example.org"}).ServerName)
	c.TLS = &tls.Config{ServerName: "a.example.org"}
	require.Equal(t, "a.example.org", c.tlsConfig(clientTarget{}).ServerName)
	require.Equal(t, "b.example.org", c.tlsConfig(clientTarget{domain: "b.example.org"}).ServerName)
	require.Equal(t, "a.example.org", c.TLS.ServerName, "the caller's stays as it is")
}

func TestClientOAuth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scriptServer{}
		s.answer = func(s *scriptServer, m *stunwire.Message) []byte {
			if !m.Has(stunwire.AttrNonce) {
				b := stunwire.Build(s.refuse(m, 401)[:0], stunwire.NewType(m.Type.Method(), stunwire.Error), m.TxID)
				b.AddError(401, "")
				b.AddString(stunwire.AttrRealm, "realm")
				b.AddString(stunwire.AttrNonce, "nonce")
				b.AddString(stunwire.AttrThirdPartyAuthorization, "as.example.org")
				return b.Bytes()
			}
			s.key = stunwire.NewKey([]byte("session key"))
			kid, _ := m.Get(stunwire.AttrUsername)
			token, _ := m.Get(stunwire.AttrAccessToken)
			if string(kid) != "kid" || string(token) != "sealed" || !m.CheckIntegrity(s.key) {
				return s.refuse(m, 401)
			}
			return s.succeed(m, func(b *stunwire.Builder) {
				b.AddXORAddr(stunwire.AttrXORRelayedAddress, scriptPeer)
				b.AddUint32(stunwire.AttrLifetime, 600)
			})
		}
		c := s.client()
		c.Token = func(_ context.Context, server, realm string) (*AccessToken, error) {
			require.Equal(t, "as.example.org", server)
			require.Equal(t, "realm", realm)
			return &AccessToken{KeyID: "kid", Token: []byte("sealed"), Key: []byte("session key")}, nil
		}
		p, err := c.Allocate(t.Context(), nil)
		require.NoError(t, err)
		require.NoError(t, p.Close())

		down := errors.New("down")
		c.Token = func(context.Context, string, string) (*AccessToken, error) { return nil, down }
		_, err = c.Allocate(t.Context(), nil)
		require.ErrorIs(t, err, down)
	})
}

func TestClientMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scriptServer{}
		p, err := s.client().Allocate(t.Context(), &AllocateOptions{Mobility: true})
		require.NoError(t, err)
		require.NoError(t, p.Move(t.Context()))
		require.Len(t, s.dialed, 2)
		require.NoError(t, p.Move(t.Context()))
		require.Len(t, s.dialed, 3)
		s.mu.Lock()
		var tickets []string
		for _, g := range s.got {
			var m stunwire.Message
			require.NoError(t, m.Parse(g.raw))
			if v, ok := m.Get(stunwire.AttrMobilityTicket); ok && g.method == stunwire.Refresh {
				tickets = append(tickets, string(v))
			}
		}
		s.mu.Unlock()
		require.Equal(t, []string{"ticket 1", "ticket 2"}, tickets)
		// A move that fails leaves all as it is.
		s.set(func() { s.silence = true })
		require.ErrorIs(t, p.Move(t.Context()), ErrNoAnswer)
		s.set(func() { s.silence = false })
		require.NoError(t, p.Permit(t.Context(), scriptPeer.Addr()))
		require.NoError(t, p.Close())

		p, err = s.client().Allocate(t.Context(), nil)
		require.NoError(t, err)
		require.ErrorIs(t, p.Move(t.Context()), errNoTicket)
		require.NoError(t, p.Close())
	})
}

func TestClientDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scriptServer{}
		p, err := s.client().Allocate(t.Context(), nil)
		require.NoError(t, err)
		start := time.Now()
		require.NoError(t, p.SetReadDeadline(start.Add(time.Second)))
		_, _, err = p.ReadFrom(nil)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))

		// Moved while somebody waits.
		require.NoError(t, p.SetReadDeadline(time.Time{}))
		time.AfterFunc(time.Second, func() { _ = p.SetReadDeadline(time.Now().Add(time.Second)) })
		_, _, err = p.ReadFrom(nil)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(start))

		// WriteTo waits for the permission no longer than that.
		s.set(func() { s.silence = true })
		require.NoError(t, p.SetWriteDeadline(time.Now().Add(time.Second)))
		_, err = p.WriteToAddrPort([]byte("x"), scriptPeer)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, 4*time.Second, time.Since(start))

		// Data that came is still read after the deadline was taken away.
		require.NoError(t, p.SetDeadline(time.Time{}))
		b := stunwire.Build(nil, stunwire.NewType(stunwire.Data, stunwire.Indication), stunwire.TxID{})
		b.AddXORAddr(stunwire.AttrXORPeerAddress, scriptPeer)
		b.AddString(stunwire.AttrData, "hello")
		for range maxClientQueue + 10 { // the rest is dropped
			s.send(b.Bytes())
			synctest.Wait()
		}
		got := make([]byte, 100)
		for range maxClientQueue {
			n, from, err := p.ReadFromAddrPort(got)
			require.NoError(t, err)
			require.Equal(t, scriptPeer, from)
			require.Equal(t, "hello", string(got[:n]))
		}
		require.NoError(t, p.SetReadDeadline(time.Now()))
		_, _, err = p.ReadFrom(got)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)

		// Close wakes who waits.
		require.NoError(t, p.SetReadDeadline(time.Time{}))
		time.AfterFunc(time.Second, func() { _ = p.Close() })
		_, _, err = p.ReadFrom(got)
		require.ErrorIs(t, err, net.ErrClosed)
	})
}

func TestClientICMP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type event struct {
			peer       netip.Addr
			kind, code uint8
			data       uint32
		}
		got := make(chan event, 1)
		s := &scriptServer{}
		p, err := s.client().Allocate(t.Context(), &AllocateOptions{ICMP: func(peer netip.Addr, kind, code uint8, data uint32) {
			got <- event{peer, kind, code, data}
		}})
		require.NoError(t, err)
		b := stunwire.Build(nil, stunwire.NewType(stunwire.Data, stunwire.Indication), stunwire.TxID{})
		b.AddXORAddr(stunwire.AttrXORPeerAddress, scriptPeer)
		b.Add(stunwire.AttrICMP, []byte{0, 0, 3 << 1, 4, 0, 0, 5, 0x78})
		s.send(b.Bytes())
		require.Equal(t, event{scriptPeer.Addr(), 3, 4, 1400}, <-got)
		require.NoError(t, p.Close())
	})
}

func TestAllocateOptions(t *testing.T) {
	token := make([]byte, 8)
	for name, c := range map[string]struct {
		o  AllocateOptions
		tc bool
		ok bool
	}{
		"zero":                   {AllocateOptions{}, false, true},
		"udp6":                   {AllocateOptions{Network: "udp6"}, false, true},
		"dual":                   {AllocateOptions{Network: "dual", DontFragment: true, Mobility: true}, false, true},
		"tcp for UDP":            {AllocateOptions{Network: "tcp"}, false, false},
		"token":                  {AllocateOptions{ReservationToken: token}, false, true},
		"short token":            {AllocateOptions{ReservationToken: token[1:]}, false, false},
		"token and even port":    {AllocateOptions{ReservationToken: token, EvenPort: true}, false, false},
		"token and family":       {AllocateOptions{ReservationToken: token, Network: "udp4"}, false, false},
		"dual and even port":     {AllocateOptions{Network: "dual", EvenPort: true}, false, false},
		"TCP":                    {AllocateOptions{Network: "tcp4", Lifetime: time.Minute}, true, true},
		"TCP and even port":      {AllocateOptions{EvenPort: true}, true, false},
		"TCP and dual":           {AllocateOptions{Network: "dual"}, true, false},
		"TCP and don't fragment": {AllocateOptions{DontFragment: true}, true, false},
	} {
		protocol := byte(protocolUDP)
		if c.tc {
			protocol = protocolTCP
		}
		_, err := c.o.attributes(protocol)
		require.Equal(t, c.ok, err == nil, "%s: %v", name, err)
	}
	_, err := (&Client{Server: "x"}).AllocateTCP(t.Context(), nil)
	require.Error(t, err, "over UDP")
}

func TestWithPort(t *testing.T) {
	for in, want := range map[string]string{
		"turn.example.org":     "turn.example.org:3478",
		"turn.example.org:443": "turn.example.org:443",
		"192.0.2.1":            "192.0.2.1:3478",
		"2001:db8::1":          "[2001:db8::1]:3478",
		"[2001:db8::1]":        "[2001:db8::1]:3478",
		"[2001:db8::1]:99":     "[2001:db8::1]:99",
	} {
		require.Equal(t, want, withPort(in, "3478"))
	}
}

func TestErrorText(t *testing.T) {
	require.EqualError(t, &Error{Code: 437, Reason: "x"}, "turn: the server answered 437 Allocation Mismatch")
	require.EqualError(t, &Error{Code: 499, Reason: "odd\n" + strings.Repeat("z", 100)}, `turn: the server answered 499 "odd\n`+strings.Repeat("z", 60)+`"`)
}

// TestClientNoAllocs: what moves packets allocates nothing.
func TestClientNoAllocs(t *testing.T) {
	s := &scriptServer{}
	p, err := s.client().Allocate(t.Context(), nil)
	require.NoError(t, err)
	defer p.end(errClientClosed)
	_, err = p.WriteToAddrPort(make([]byte, 1200), scriptPeer)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(s.times(stunwire.ChannelBind)) == 1 }, 30*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return p.peers[scriptPeer].bound.Load() }, 30*time.Second, time.Millisecond)
	session := *p.session.Load()
	session.conn = discardConn{}
	p.session.Store(&session)
	data, frame := make([]byte, 1200), stunwire.AppendChannelHeader(nil, 0x4000, 1200)
	frame = append(frame, data...)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, err := p.WriteToAddrPort(data, scriptPeer); err != nil {
			panic(err)
		}
		session.handle(frame)
		if _, _, err := p.ReadFromAddrPort(data); err != nil {
			panic(err)
		}
	}))
}

type discardConn struct{ net.Conn }

func (discardConn) Write(b []byte) (int, error) { return len(b), nil }
func (discardConn) Close() error                { return nil }
func (discardConn) Read([]byte) (int, error)    { return 0, io.EOF }
