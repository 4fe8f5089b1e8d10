package stun

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pion "github.com/pion/stun/v2"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// TestRetransmission: requests go at the times of the example of RFC 8489
// Section 6.2.1, each the same, and after 39.5 s the transaction has failed.
func TestRetransmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		s := w.listen("10.0.0.1:1000")
		defer s.Close()
		start := time.Now()
		var at []time.Duration
		var first []byte
		w.meddle = func(_, _ netip.AddrPort, b []byte) []byte {
			at = append(at, time.Since(start))
			if first == nil {
				first = bytes.Clone(b)
			}
			require.Equal(t, first, b)
			return nil
		}
		_, err := new(Client).Binding(t.Context(), s.conn("10.0.0.2:3478"))
		require.ErrorIs(t, err, ErrTimeout)
		require.Equal(t, 39500*time.Millisecond, time.Since(start))
		ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
		require.Equal(t, []time.Duration{0, ms(500), ms(1500), ms(3500), ms(7500), ms(15500), ms(31500)}, at)
	})
}

// serveWire runs a Server on the wire until the test ends.
func serveWire(t *testing.T, w *wire, at string, r Responder) *Server {
	s := &Server{Responder: r}
	ended := make(chan error)
	go func() { ended <- s.ServePacket(w.listen(at)) }()
	t.Cleanup(func() {
		s.Close()
		require.ErrorIs(t, <-ended, ErrServerClosed)
	})
	synctest.Wait()
	return s
}

// TestLoss: a lost request and a lost answer cost time, nothing else; answers
// of others and broken ones are not taken.
func TestLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		defer serveWire(t, w, "10.0.0.2:3478", Responder{}).Close()
		s := w.listen("10.0.0.1:1000")
		defer s.Close()
		n := 0
		w.meddle = func(from, to netip.AddrPort, b []byte) []byte {
			n++
			switch n {
			case 1, 3:
				return nil
			case 5: // another's, a broken one and an indication come first
				wrong := bytes.Clone(b)
				wrong[19]++
				w.socks[to].view.handle([]Packet{{wrong, from}, {b[:21], from}, {b, netip.MustParseAddrPort("10.0.0.3:3478")}})
				indication := bytes.Clone(b)
				indication[0], indication[1] = 0, 0x11
				w.socks[to].view.handle([]Packet{{indication, from}})
			}
			return b
		}
		start := time.Now()
		_ = n
		got, err := new(Client).Binding(t.Context(), s.conn("10.0.0.2:3478"))
		require.NoError(t, err)
		require.Equal(t, s.at, got)
		require.Equal(t, 1500*time.Millisecond, time.Since(start))
	})
}

func TestContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		s := w.listen("10.0.0.1:1000")
		defer s.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := new(Client).BindingPacket(ctx, s, netip.MustParseAddrPort("10.0.0.2:3478"))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 700*time.Millisecond, time.Since(start))
		_, err = new(Client).BindingPacket(ctx, s, netip.MustParseAddrPort("10.0.0.2:3478"))
		require.ErrorIs(t, err, context.DeadlineExceeded)

		// The socket is as good as before.
		defer serveWire(t, w, "10.0.0.2:3478", Responder{}).Close()
		_, err = new(Client).BindingPacket(t.Context(), s, netip.MustParseAddrPort("10.0.0.2:3478"))
		require.NoError(t, err)
	})
}

// TestStreamTimeout: over TCP the request goes once and may take 39.5 s.
func TestStreamTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer here.Close()
		defer there.Close()
		var requests atomic.Int32
		go func() {
			for {
				if _, err := readFrame(there, make([]byte, 100)); err != nil {
					return
				}
				requests.Add(1)
			}
		}()
		start := time.Now()
		_, err := new(Client).Binding(t.Context(), here)
		require.ErrorIs(t, err, ErrTimeout)
		require.Equal(t, 39500*time.Millisecond, time.Since(start))
		require.EqualValues(t, 1, requests.Load())
		there.Close()
		_, err = new(Client).Binding(t.Context(), here)
		require.ErrorIs(t, err, io.ErrClosedPipe)
	})
}

// answering is a conn whose peer answers each request with what f makes of it.
func answering(t *testing.T, f func(m *stunwire.Message) []byte) net.Conn {
	here, there := net.Pipe()
	t.Cleanup(func() { here.Close(); there.Close() })
	go func() {
		for {
			b, err := readFrame(there, make([]byte, 4096))
			if err != nil {
				return
			}
			var m stunwire.Message
			if m.Parse(b) == nil {
				there.Write(f(&m))
			}
		}
	}()
	return here
}

func TestResponses(t *testing.T) {
	build := func(m *stunwire.Message, c stunwire.Class, add func(b *stunwire.Builder)) []byte {
		b := stunwire.Build(nil, stunwire.NewType(stunwire.Binding, c), m.TxID)
		add(&b)
		return b.Bytes()
	}
	ask := func(f func(m *stunwire.Message) []byte) error {
		_, err := new(Client).Binding(t.Context(), answering(t, f))
		return err
	}
	var refused *ResponseError
	err := ask(func(m *stunwire.Message) []byte {
		return build(m, stunwire.Error, func(b *stunwire.Builder) { b.AddError(500, "out\nof order") })
	})
	require.ErrorAs(t, err, &refused)
	require.Equal(t, 500, refused.Code)
	require.Equal(t, `stun: error 500: "out\nof order"`, err.Error())

	require.ErrorContains(t, ask(func(m *stunwire.Message) []byte {
		return build(m, stunwire.Success, func(b *stunwire.Builder) { b.AddUint32(0x7F00, 1) })
	}), "0x7f00")
	require.ErrorContains(t, ask(func(m *stunwire.Message) []byte {
		return build(m, stunwire.Success, func(*stunwire.Builder) {})
	}), "without an address")
	require.ErrorIs(t, ask(func(m *stunwire.Message) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") }), ErrNotSTUN)
	require.NoError(t, ask(func(m *stunwire.Message) []byte {
		return build(m, stunwire.Success, func(b *stunwire.Builder) {
			b.AddAddr(stunwire.AttrMappedAddress, netip.MustParseAddrPort("1.2.3.4:5")) // all that RFC 3489 knew
		})
	}))
	// A 300 that nobody has proven is no reason to go elsewhere.
	err = ask(func(m *stunwire.Message) []byte {
		return build(m, stunwire.Error, func(b *stunwire.Builder) {
			b.AddError(300, "")
			b.AddAddr(stunwire.AttrAlternateServer, netip.MustParseAddrPort("1.2.3.4:5"))
		})
	})
	var alternate *AlternateError
	require.False(t, errorsAs(err, &alternate))
	require.ErrorAs(t, err, &refused)
	_, err = new(Client).Do(t.Context(), answering(t, nil), &Message{Type: pion.NewType(pion.MethodBinding, pion.ClassIndication)})
	require.ErrorContains(t, err, "not a request")
}

// TestDoSendsAttributes: what the caller gives goes out, but for what is the
// Client's.
func TestDoSendsAttributes(t *testing.T) {
	req, err := pion.Build(pion.BindingRequest, pion.NewUsername("x"), pion.Fingerprint)
	require.NoError(t, err)
	req.Add(pion.AttrPriority, []byte{0, 0, 0, 7})
	var got []stunwire.Attr
	conn := answering(t, func(m *stunwire.Message) []byte {
		for a := range m.Each {
			got = append(got, a)
		}
		b := stunwire.Build(nil, stunwire.NewType(stunwire.Binding, stunwire.Success), m.TxID)
		b.AddXORAddr(stunwire.AttrXORMappedAddress, netip.MustParseAddrPort("1.2.3.4:5"))
		return b.Bytes()
	})
	m, err := (&Client{Software: "test", Fingerprint: true}).Do(t.Context(), conn, req)
	require.NoError(t, err)
	ap, err := MappedAddress(m)
	require.NoError(t, err)
	require.Equal(t, "1.2.3.4:5", ap.String())
	require.True(t, slices.Equal([]stunwire.Attr{stunwire.AttrPriority, stunwire.AttrSoftware, stunwire.AttrFingerprint}, got), got)
}

// FuzzResponse: whatever a server answers, it is taken or refused.
func FuzzResponse(f *testing.F) {
	answer := (&Responder{Verifier: &Verifier{Realm: "realm", NonceSecret: testSecret, Key: users("user"), Anonymous: true}}).Append(nil, binding(nil), testFrom)
	f.Add(answer)
	f.Add((&Responder{Addrs: testAddrs, Software: "x"}).Append(nil, binding(nil), testFrom))
	out, _ := (&Responder{Addrs: testAddrs}).Answer(nil, binding(nil), testFrom, Primary)
	f.Add(out)
	redirect := stunwire.Build(nil, stunwire.NewType(stunwire.Binding, stunwire.Error), stunwire.TxID{})
	redirect.AddError(300, "elsewhere")
	redirect.AddAddr(stunwire.AttrAlternateServer, testFrom6)
	redirect.AddString(stunwire.AttrAlternateDomain, "example.org")
	redirect.AddIntegrity(stunwire.NewKey([]byte("pass")))
	f.Add(redirect.Bytes())
	c := Credentials{Username: "user", Password: "pass"}
	short := (&Credentials{Username: "user", Password: "pass", ShortTerm: true}).shortTerm()
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, l := range []*login{nil, short} {
			tr, err := new(Client).newTransaction(&Message{Type: pion.BindingRequest}, l)
			require.NoError(t, err)
			if len(b) >= stunwire.HeaderSize {
				copy(tr.id[:], b[8:])
			}
			if !tr.accept(b) {
				continue
			}
			if l != nil {
				require.True(t, tr.response.CheckIntegrity(l.key) || tr.response.CheckIntegritySHA256(l.key))
			}
			m, err := tr.result()
			require.True(t, (m == nil) != (err == nil))
			if next, err := c.answer(&tr.response, nil, 401); err == nil && next != nil {
				require.NoError(t, new(stunwire.Message).Parse(request(next)))
			}
			d := discovery{server: testFrom}
			d.first(&tr.response)
		}
	})
}
