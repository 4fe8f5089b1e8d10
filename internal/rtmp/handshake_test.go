package rtmp

import (
	"bytes"
	"encoding/hex"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Digest and signature of made-up packets, computed with another program.
func TestHandshakeVectors(t *testing.T) {
	for scheme, want := range []struct {
		at             int
		digest, answer string
	}{
		{1486, "0b81165e826ba4a4c5d7a415a8b7af84687113cb1b59e3440e98a3b7f8da4bfd", "878c0f5e3345499e5ca043c95635e8ed665899745e9715e68580ed63452d76ca"},
		{450, "24112826b2fad5c37bcc583defe54aa22335db09e9bef8ebf6ab97487725ab1d", "bb66cf0e67bf640530ff522018d258f28890387b0990db023e5c80f70eceefe6"},
	} {
		c1 := make([]byte, handshakeSize)
		for i := range c1 {
			c1[i] = byte(i*31 + 7)
		}
		copy(c1, []byte{0, 0, 0, 1, 9, 0, 124, 2})
		_, _, ok := findDigest(c1, clientText)
		require.False(t, ok)
		putDigest(c1, scheme, clientText)
		found, at, ok := findDigest(c1, clientText)
		require.True(t, ok)
		require.Equal(t, scheme, found)
		require.Equal(t, want.at, at)
		require.Equal(t, want.digest, hex.EncodeToString(c1[at:at+digestSize]))
		_, _, ok = findDigest(c1, serverText)
		require.False(t, ok)

		s2 := make([]byte, handshakeSize)
		for i := range s2 {
			s2[i] = byte(i * 5)
		}
		signAnswer(s2, c1[at:at+digestSize], serverText)
		require.Equal(t, want.answer, hex.EncodeToString(s2[handshakeSize-digestSize:]))
	}
}

func TestHandshake(t *testing.T) {
	for _, simple := range []bool{true, false} {
		a, b := net.Pipe()
		done := make(chan error, 1)
		go func() {
			done <- serverHandshake(a)
			_, _ = a.Write([]byte("after"))
			a.Close()
		}()
		require.NoError(t, clientHandshake(b, simple))
		require.NoError(t, <-done)
		rest, err := io.ReadAll(b)
		require.NoError(t, err)
		require.Equal(t, "after", string(rest))
	}
}

// script is a peer that has said all it will ever say.
type script struct {
	io.Reader
	io.Writer
}

// The server answers each kind of client in its kind.
func TestServerHandshakeForms(t *testing.T) {
	for _, c := range []struct {
		name   string
		scheme int // -1: simple
	}{{"simple", -1}, {"digest behind the key", 0}, {"digest before the key", 1}} {
		t.Run(c.name, func(t *testing.T) {
			c0c1 := make([]byte, 1+handshakeSize)
			c0c1[0] = version
			fillRandom(c0c1[9:])
			if c.scheme >= 0 {
				copy(c0c1[5:], []byte{128, 0, 7, 2})
				putDigest(c0c1[1:], c.scheme, clientText)
			}
			var out bytes.Buffer
			in := bytes.NewReader(append(bytes.Clone(c0c1), make([]byte, handshakeSize+3)...))
			require.NoError(t, serverHandshake(script{in, &out}))
			require.Equal(t, 3, in.Len(), "reads no more than the handshake")
			s := out.Bytes()
			require.Len(t, s, 1+2*handshakeSize)
			require.Equal(t, byte(version), s[0])
			s1, s2 := s[1:1+handshakeSize], s[1+handshakeSize:]
			if c.scheme < 0 {
				require.Equal(t, c0c1[1:], s2, "an echo")
				require.Equal(t, make([]byte, 4), s1[4:8])
				return
			}
			scheme, _, ok := findDigest(s1, serverText)
			require.True(t, ok)
			require.Equal(t, c.scheme, scheme)
			_, at, _ := findDigest(c0c1[1:], clientText)
			signed := bytes.Clone(s2)
			signAnswer(signed, c0c1[1+at:1+at+digestSize], serverText)
			require.Equal(t, signed, s2)
		})
	}
}

func TestHandshakeErrors(t *testing.T) {
	for _, first := range []byte{0, 6, 0xf3, 'G'} { // RTMPE, a proxy's prefix, HTTP
		in := bytes.NewReader(append([]byte{first}, make([]byte, 4000)...))
		require.Equal(t, errVersion, serverHandshake(script{in, io.Discard}))
		in = bytes.NewReader(append([]byte{first}, make([]byte, 4000)...))
		require.Equal(t, errVersion, clientHandshake(script{in, io.Discard}, false))
	}
	in := bytes.NewReader(append([]byte{version}, make([]byte, 2000)...))
	require.Equal(t, io.ErrUnexpectedEOF, serverHandshake(script{in, io.Discard}))
}

func FuzzServerHandshake(f *testing.F) {
	c := make([]byte, 1+2*handshakeSize)
	c[0] = version
	f.Add(bytes.Clone(c))
	copy(c[5:], []byte{9, 0, 124, 2})
	putDigest(c[1:1+handshakeSize], 0, clientText)
	f.Add(bytes.Clone(c))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = serverHandshake(script{bytes.NewReader(b), io.Discard})
		_ = clientHandshake(script{bytes.NewReader(b), io.Discard}, false)
	})
}

func BenchmarkHandshake(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		x, y := net.Pipe()
		_ = x.SetDeadline(time.Now().Add(time.Second))
		go func() { _ = clientHandshake(y, false) }()
		if err := serverHandshake(x); err != nil {
			b.Fatal(err)
		}
	}
}
