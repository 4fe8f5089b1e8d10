package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
)

// picture is the body of a video message: an H.264 picture of n bytes.
func picture(fill byte, n int) []byte {
	return append([]byte{0x17, 1, 0, 0, 0}, bytes.Repeat([]byte{fill}, n)...)
}

// chunks is an RTMP message in chunks of the given size, all headers full or
// the shortest.
func chunks(id byte, typ byte, ts uint32, size int, body []byte) []byte {
	h := []byte{id, byte(ts >> 16), byte(ts >> 8), byte(ts), byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body)), typ, 1, 0, 0, 0}
	var ext []byte
	if ts >= 0xffffff {
		copy(h[1:], "\xff\xff\xff")
		ext = binary.BigEndian.AppendUint32(nil, ts)
	}
	out := append(h, ext...)
	for len(body) > size {
		out = append(append(append(out, body[:size]...), id|3<<6), ext...)
		body = body[size:]
	}
	return append(out, body...)
}

func tag(typ byte, body []byte) []byte {
	n := len(body)
	out := append([]byte{typ, byte(n >> 16), byte(n >> 8), byte(n), 0, 0, 0, 0, 0, 0, 0}, body...)
	return binary.BigEndian.AppendUint32(out, uint32(n+11))
}

var flvHeader = []byte("FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00")

func frame(opcode byte, body []byte) []byte {
	out := []byte{opcode}
	switch n := len(body); {
	case n < 126:
		out = append(out, byte(n))
	case n < 1<<16:
		out = binary.BigEndian.AppendUint16(append(out, 126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, 127), uint64(n))
	}
	return append(out, body...)
}

func TestReaders(t *testing.T) {
	small, big := []byte("abc"), picture(9, 70_000)
	rtmp := func(b []byte) messageReader {
		return newChunkReader(bufio.NewReader(iotest.HalfReader(bytes.NewReader(b))))
	}
	flv := func(b []byte) messageReader {
		return &tagReader{r: bufio.NewReader(iotest.HalfReader(bytes.NewReader(b)))}
	}
	ws := func(b []byte) messageReader {
		return &tagReader{r: bufio.NewReader(&webSocketReader{r: bufio.NewReader(iotest.HalfReader(bytes.NewReader(b)))})}
	}
	want := []message{{typeCommand, small}, {typeVideo, big}}
	for _, c := range []struct {
		name string
		read func([]byte) messageReader
		in   []byte
		want []message
	}{
		{"RTMP chunk size", rtmp, bytes.Join([][]byte{
			chunks(3, typeCommand, 0, 128, small),
			chunks(2, typeSetChunkSize, 0, 128, []byte{0, 0, 16, 0}),
			chunks(6, typeVideo, 0, 4096, big),
		}, nil), []message{want[0], {typeSetChunkSize, []byte{0, 0, 16, 0}}, want[1]}},
		{"RTMP extended timestamp", rtmp, append(chunks(3, typeCommand, 1<<24, 128, small), chunks(4, typeVideo, 1<<30, 128, big)...), want},
		{"RTMP long chunk stream id", rtmp, append([]byte{0, 5}, chunks(3, typeCommand, 0, 128, small)[1:]...), want[:1]},
		{"RTMP short headers", rtmp, bytes.Join([][]byte{
			chunks(3, typeCommand, 0, 128, small),
			append([]byte{1<<6 | 3, 0, 0, 1, 0, 0, 3, typeCommand}, small...),
			append([]byte{2<<6 | 3, 0, 0, 1}, small...),
			append([]byte{3<<6 | 3}, small...),
		}, nil), []message{want[0], want[0], want[0], want[0]}},
		{"FLV", flv, bytes.Join([][]byte{flvHeader, tag(typeCommand, small), tag(typeVideo, big)}, nil), want},
		{"WebSocket", ws, bytes.Join([][]byte{
			frame(0x82, flvHeader), frame(0x89, small), frame(0x82, append(tag(typeCommand, small), tag(typeVideo, big)[:5000]...)), frame(0x82, tag(typeVideo, big)[5000:]),
		}, nil), want},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := c.read(c.in)
			for _, w := range c.want {
				m, err := r.next()
				require.NoError(t, err)
				require.Equal(t, w.typ, m.typ)
				require.True(t, bytes.Equal(w.body, m.body))
			}
			_, err := r.next()
			require.ErrorIs(t, err, io.EOF)
		})
	}
}

func TestFrame(t *testing.T) {
	for _, c := range []struct {
		name string
		m    message
		ok   bool
	}{
		{"picture", message{typeVideo, picture(1, 100)}, true},
		{"too small to tell apart", message{typeVideo, picture(1, 10)}, false},
		{"sequence header", message{typeVideo, append([]byte{0x17, 0, 0, 0, 0}, make([]byte, 100)...)}, false},
		{"audio", message{8, picture(1, 100)}, false},
		{"empty", message{typeVideo, nil}, false},
	} {
		b, ok := c.m.frame()
		require.Equal(t, c.ok, ok, c.name)
		require.Equal(t, ok, len(b) == 100, c.name)
	}
}

func FuzzReaders(f *testing.F) {
	f.Add(chunks(6, typeVideo, 1<<24, 128, picture(1, 300)))
	f.Add(append(flvHeader, tag(typeVideo, picture(1, 300))...))
	f.Add(frame(0x82, append(flvHeader, tag(typeVideo, picture(1, 300))...)))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, r := range []messageReader{
			newChunkReader(bufio.NewReader(bytes.NewReader(b))),
			&tagReader{r: bufio.NewReader(bytes.NewReader(b))},
			&tagReader{r: bufio.NewReader(&webSocketReader{r: bufio.NewReader(bytes.NewReader(b))})},
		} {
			for range len(b) + 1 { // a message of no bytes takes one at least
				m, err := r.next()
				if err != nil {
					break
				}
				require.LessOrEqual(t, len(m.body), len(b))
				m.frame()
			}
		}
	})
}

// TestTap: what the publisher sends arrives whole, and a picture is known by
// the time that the server has all of it.
func TestTap(t *testing.T) {
	tp, err := newTap("")
	require.NoError(t, err)
	defer tp.listener.Close()
	tp.begin()
	one, two := picture(1, 5000), picture(2, 200)
	in := append(make([]byte, 1+2*1536), append(chunks(6, typeVideo, 0, 128, one), chunks(6, typeVideo, 40, 128, two)...)...)
	var out bytes.Buffer
	server := writerFunc(func(b []byte) (int, error) {
		if bytes.Contains(b, two[len(two)-50:]) {
			tp.arrived(two[5:])
		}
		return out.Write(b)
	})
	err = tp.pass(server, iotest.DataErrReader(bytes.NewReader(in)))
	require.ErrorIs(t, err, io.EOF)
	require.True(t, bytes.Equal(in, out.Bytes()))
	tp.arrived(one[5:])
	tp.arrived(picture(3, 100)[5:])
	delays, misses := tp.end()
	require.Len(t, delays, 2)
	require.Less(t, delays[1], 10*time.Second)
	require.Equal(t, 1, misses)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestAwaitCommand(t *testing.T) {
	status := func(code, level string) []byte {
		b, err := appendCommand(nil, 1, "onStatus", 0.0, nil, map[string]any{"code": code, "level": level})
		require.NoError(t, err)
		return b
	}
	for _, c := range []struct {
		name string
		in   []byte
		ok   bool
	}{
		{"start", append(status("NetStream.Play.Reset", "status"), status("NetStream.Play.Start", "status")...), true},
		{"refused", status("NetStream.Play.StreamNotFound", "error"), false},
		{"silence", nil, false},
	} {
		err := awaitCommand(newChunkReader(bufio.NewReader(bytes.NewReader(c.in))), "onStatus", "NetStream.Play.Start")
		require.Equal(t, c.ok, err == nil, "%s: %v", c.name, err)
	}
}
