package rtmp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	require.NoError(t, err)
	return b
}

func newReader(src io.Reader) *reader {
	r := &reader{}
	r.init(src, commandBuffer)
	return r
}

// readAll returns the messages of wire, and what came after them.
func readAll(r *reader) ([]message, error) {
	var all []message
	for {
		m, err := r.next()
		if err != nil {
			return all, err
		}
		all = append(all, m)
	}
}

func TestHeaderForms(t *testing.T) {
	const setChunk4 = "02 000000 000004 01 00000000 00000004 "
	for _, c := range []struct {
		name, hex string
		want      []message
	}{
		{"format 0", "04 000010 000002 08 01000000 aabb",
			[]message{{8, 1, 16, []byte{0xaa, 0xbb}}}},
		{"format 1 counts from the message before", "04 000010 000001 08 01000000 aa  44 000005 000002 09 bbcc",
			[]message{{8, 1, 16, []byte{0xaa}}, {9, 1, 21, []byte{0xbb, 0xcc}}}},
		{"format 2 repeats length and type", "04 000010 000001 08 01000000 aa  84 000007 bb",
			[]message{{8, 1, 16, []byte{0xaa}}, {8, 1, 23, []byte{0xbb}}}},
		{"format 3 repeats the delta too", "04 000010 000001 08 01000000 aa  84 000007 bb  c4 cc",
			[]message{{8, 1, 16, []byte{0xaa}}, {8, 1, 23, []byte{0xbb}}, {8, 1, 30, []byte{0xcc}}}},
		{"format 3 after format 0 takes its timestamp for a delta", "04 000010 000001 08 01000000 aa  c4 bb",
			[]message{{8, 1, 16, []byte{0xaa}}, {8, 1, 32, []byte{0xbb}}}},
		{"format 1 begins a chunk stream", "42 000000 000006 04 0006 00000001",
			[]message{{4, 0, 0, []byte{0, 6, 0, 0, 0, 1}}}},
		{"chunk stream 64, in two bytes", "00 00 000001 000001 08 01000000 aa",
			[]message{{8, 1, 1, []byte{0xaa}}}},
		{"chunk stream 319, in three bytes, and 64 in three", "01 ff00 000001 000001 08 01000000 aa  c1 ff00 bb  01 0000 000009 000001 09 01000000 cc  c0 00 dd",
			[]message{{8, 1, 1, []byte{0xaa}}, {8, 1, 2, []byte{0xbb}}, {9, 1, 9, []byte{0xcc}}, {9, 1, 18, []byte{0xdd}}}},
		{"chunk stream 65599", "01 ffff 000001 000001 08 01000000 aa  c1 ffff bb",
			[]message{{8, 1, 1, []byte{0xaa}}, {8, 1, 2, []byte{0xbb}}}},
		{"message stream id is little-endian", "04 000000 000001 08 01020304 aa",
			[]message{{8, 0x04030201, 0, []byte{0xaa}}}},
		{"empty messages", "04 000001 000000 08 01000000  84 000001  c4",
			[]message{{8, 1, 1, nil}, {8, 1, 2, nil}, {8, 1, 3, nil}}},
		{"several chunks", setChunk4 + "04 000001 000009 08 01000000 01020304 c4 05060708 c4 09",
			[]message{{8, 1, 1, []byte{1, 2, 3, 4, 5, 6, 7, 8, 9}}}},
		{"interleaved", setChunk4 + "04 000001 000006 08 01000000 01020304  06 000002 000005 09 01000000 a1a2a3a4  c4 0506  c6 a5",
			[]message{{8, 1, 1, []byte{1, 2, 3, 4, 5, 6}}, {9, 1, 2, []byte{0xa1, 0xa2, 0xa3, 0xa4, 0xa5}}}},
		{"aborted", setChunk4 + "04 000001 000006 08 01000000 01020304  02 000000 000004 02 00000000 00000004  c4 11121314 c4 1516",
			[]message{{8, 1, 2, []byte{0x11, 0x12, 0x13, 0x14, 0x15, 0x16}}}},
		{"abort of a chunk stream that is not there", "02 000000 000004 02 00000000 00000063  04 000000 000001 08 01000000 aa",
			[]message{{8, 1, 0, []byte{0xaa}}}},
		{"a header inside a message begins another", setChunk4 + "04 000001 000006 08 01000000 01020304  04 000005 000001 09 01000000 aa",
			[]message{{9, 1, 5, []byte{0xaa}}}},
		{"extended timestamp", "04 ffffff 000001 08 01000000 01000000 aa",
			[]message{{8, 1, 1 << 24, []byte{0xaa}}}},
		{"extended timestamp of 0xffffff", "04 ffffff 000001 08 01000000 00ffffff aa",
			[]message{{8, 1, 1<<24 - 1, []byte{0xaa}}}},
		{"extended timestamp repeated in format 3", setChunk4 + "04 ffffff 000006 08 01000000 01000000 01020304 c4 01000000 0506",
			[]message{{8, 1, 1 << 24, []byte{1, 2, 3, 4, 5, 6}}}},
		{"extended timestamp left out in format 3", setChunk4 + "04 ffffff 000008 08 01000000 01000000 01020304 c4 05060708",
			[]message{{8, 1, 1 << 24, []byte{1, 2, 3, 4, 5, 6, 7, 8}}}},
		{"extended delta, and the timestamp in format 3", setChunk4 + "04 000001 000001 08 01000000 00  44 ffffff 000006 08 01000000 01020304 c4 01000001 0506",
			[]message{{8, 1, 1, []byte{0}}, {8, 1, 1<<24 + 1, []byte{1, 2, 3, 4, 5, 6}}}},
		{"extended delta repeated by a new message", "04 000000 000001 08 01000000 00  84 ffffff 01000000 01  c4 01000000 02",
			[]message{{8, 1, 0, []byte{0}}, {8, 1, 1 << 24, []byte{1}}, {8, 1, 2 << 24, []byte{2}}}},
		{"timestamps wrap", "04 ffffff 000001 08 01000000 fffffffe aa  84 000003 bb",
			[]message{{8, 1, 0xfffffffe, []byte{0xaa}}, {8, 1, 1, []byte{0xbb}}}},
		{"chunk size 1", "02 000000 000004 01 00000000 00000001  04 000000 000003 08 01000000 01 c4 02 c4 03",
			[]message{{8, 1, 0, []byte{1, 2, 3}}}},
		{"largest chunk size", "02 000000 000004 01 00000000 7fffffff  04 000000 000003 08 01000000 010203",
			[]message{{8, 1, 0, []byte{1, 2, 3}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			wire := unhex(t, c.hex)
			got, err := readAll(newReader(bytes.NewReader(wire)))
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, c.want, got)
			got, err = readAll(newReader(iotest.OneByteReader(bytes.NewReader(wire))))
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, c.want, got)
		})
	}
}

func TestReaderErrors(t *testing.T) {
	var many []byte
	for i := range maxChunkStreams + 1 {
		many = append(many, 0, byte(i), 0, 0, 0, 0, 0, 0, 8, 1, 0, 0, 0)
	}
	for _, c := range []struct {
		name string
		wire []byte
		want error
	}{
		{"format 2 first", unhex(t, "84 000007 bb"), errChunk},
		{"format 3 first", unhex(t, "c4 bb"), errChunk},
		{"chunk size 0", unhex(t, "02 000000 000004 01 00000000 00000000"), errChunkSize},
		{"chunk size 0 with the high bit", unhex(t, "02 000000 000004 01 00000000 80000000"), errChunkSize},
		{"short chunk size", unhex(t, "02 000000 000003 01 00000000 000000"), errControl},
		{"short abort", unhex(t, "02 000000 000000 02 00000000"), errControl},
		{"too long before media is allowed", unhex(t, "04 000000 010001 08 01000000"), errTooLong},
		{"too many chunk streams", many, errChunkStream},
		{"ends in a header", unhex(t, "04 000000"), io.ErrUnexpectedEOF},
		{"ends in a body", unhex(t, "04 000000 000003 08 01000000 00"), io.ErrUnexpectedEOF},
		{"ends between the chunks of a message", unhex(t, "02 000000 000004 01 00000000 00000001  04 000000 000003 08 01000000 01"), io.ErrUnexpectedEOF},
		{"ends", nil, io.EOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := readAll(newReader(bytes.NewReader(c.wire)))
			require.Equal(t, c.want, err)
		})
	}
}

// What a peer declares costs nothing until it comes.
func TestDeclaredLengthCostsNothing(t *testing.T) {
	var wire []byte
	wire = append(wire, unhex(t, "02 000000 000004 01 00000000 00000001")...) // chunks of one byte
	for i := range maxChunkStreams - 1 {
		wire = append(wire, 0, byte(i), 0, 0, 0, 0xff, 0xff, 0xff, 9, 1, 0, 0, 0, 0x55)
	}
	r := newReader(bytes.NewReader(wire))
	r.expectMedia()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := r.next()
	runtime.ReadMemStats(&after)
	require.Equal(t, io.ErrUnexpectedEOF, err)
	require.Equal(t, maxChunkStreams-1, r.begun)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(512<<10))
	require.Less(t, r.held, 512<<10)
}

// Unfinished messages are bounded together.
func TestHeldIsBounded(t *testing.T) {
	var wire []byte
	wire = append(wire, unhex(t, "02 000000 000004 01 00000000 00ffffff")...)
	body := make([]byte, 12<<20)
	for i := range 3 {
		h := []byte{0, byte(i), 0, 0, 0, 0xff, 0xff, 0xff, 9, 1, 0, 0, 0}
		wire = append(wire, h...)
		wire = append(wire, body...)
		// The chunk is cut short: a larger one would be complete. Begin again
		// by a set chunk size that fits.
		if i == 0 {
			var size [4]byte
			binary.BigEndian.PutUint32(size[:], uint32(len(body)))
			wire = append(unhex(t, "02 000000 000004 01 00000000"), size[:]...)
			wire = append(append(wire, h...), body...)
		}
	}
	r := newReader(bytes.NewReader(wire))
	r.expectMedia()
	_, err := r.next()
	require.Equal(t, errTooMuch, err)
}

// A long message arrives whole, and costs at most twice its size.
func TestLongMessage(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	wire := AppendMessage(nil, typeVideo, 7, body[:5], body[5:])
	for _, bufSize := range []int{playBuffer, commandBuffer, publishBuffer} {
		r := &reader{}
		r.init(bytes.NewReader(wire), bufSize)
		r.expectMedia()
		r.chunkSize = PlayChunkSize
		m, err := r.next()
		require.NoError(t, err)
		require.True(t, bytes.Equal(body, m.body))
		require.Equal(t, len(body), cap(m.body))
		require.Zero(t, r.held)
		require.Equal(t, uint64(len(wire)), r.total)
	}
}

func TestAck(t *testing.T) {
	wire := unhex(t, "02 000000 000004 05 00000000 00001000")
	for range 5 {
		wire = AppendMessage(wire, typeAudio, 0, nil, make([]byte, 100))
	}
	wire = AppendMessage(wire, typeAudio, 0, nil, make([]byte, 4096))
	r := newReader(iotest.OneByteReader(bytes.NewReader(wire)))
	r.chunkSize = PlayChunkSize
	for range 5 {
		_, err := r.next()
		require.NoError(t, err)
		_, due := r.ackDue()
		require.False(t, due)
	}
	_, err := r.next()
	require.NoError(t, err)
	n, due := r.ackDue()
	require.True(t, due)
	require.Equal(t, uint32(len(wire)), n)
	_, due = r.ackDue()
	require.False(t, due)
}

func TestResize(t *testing.T) {
	wire := AppendMessage(nil, typeAudio, 1, nil, bytes.Repeat([]byte{1}, 1000))
	wire = AppendMessage(wire, typeAudio, 2, nil, bytes.Repeat([]byte{2}, 1000))
	r := newReader(bytes.NewReader(wire))
	r.chunkSize = PlayChunkSize
	_, err := r.next()
	require.NoError(t, err)
	r.resize(16) // the second message is buffered already
	require.Len(t, r.buf, 1012)
	m, err := r.next()
	require.NoError(t, err)
	require.Equal(t, bytes.Repeat([]byte{2}, 1000), m.body)
}

func TestAppendMessage(t *testing.T) {
	// The bytes of a message, by hand.
	require.Equal(t,
		unhex(t, "06 000010 000005 09 01000000 1700 010203"),
		AppendMessage(nil, typeVideo, 16, []byte{0x17, 0}, []byte{1, 2, 3}))
	require.Equal(t,
		unhex(t, "04 ffffff 000001 08 01000000 01020304 af"),
		AppendMessage(nil, typeAudio, 0x01020304, []byte{0xaf}, nil))

	// Longer ones, and where chunks end.
	for _, size := range []int{0, 1, PlayChunkSize - 1, PlayChunkSize, PlayChunkSize + 1, 3*PlayChunkSize - 5, 3 * PlayChunkSize, 500000} {
		for _, header := range []int{0, 5} {
			for _, ts := range []uint32{0, 1<<24 - 2, 1<<24 - 1, 1<<32 - 1} {
				body := make([]byte, header+size)
				for i := range body {
					body[i] = byte(i * 7 >> 3)
				}
				wire := AppendMessage([]byte{0xee}, typeVideo, ts, body[:header], body[header:])
				r := newReader(bytes.NewReader(wire[1:]))
				r.expectMedia()
				r.chunkSize = PlayChunkSize
				m, err := r.next()
				require.NoError(t, err)
				require.Equal(t, ts, m.ts)
				require.True(t, bytes.Equal(body, m.body))
				_, err = r.next()
				require.Equal(t, io.EOF, err)
			}
		}
	}
	require.Nil(t, AppendMessage(nil, typeVideo, 0, make([]byte, 5), make([]byte, maxMessageSize-4)))
}

func TestAppendMessageAllocs(t *testing.T) {
	dst, payload := make([]byte, 0, 1<<17), make([]byte, 100000)
	require.Zero(t, testing.AllocsPerRun(100, func() { dst = AppendMessage(dst[:0], typeVideo, 5, nil, payload) }))
}

// One allocation for a message: its body.
func TestReaderAllocs(t *testing.T) {
	wire := AppendMessage(nil, typeVideo, 0, nil, make([]byte, 5000))
	src := &loop{wire: wire}
	r := newReader(src)
	r.resize(publishBuffer)
	r.expectMedia()
	r.chunkSize = PlayChunkSize
	_, err := r.next()
	require.NoError(t, err)
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { _, _ = r.next() }), 1.0)
}

// loop reads wire over and over.
type loop struct {
	wire []byte
	at   int
}

func (l *loop) Read(b []byte) (int, error) {
	if l.at == len(l.wire) {
		l.at = 0
	}
	n := copy(b, l.wire[l.at:])
	l.at += n
	return n, nil
}

func TestClock(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []uint32
		want []int64
	}{
		{"steady", []uint32{0, 20, 40}, []int64{0, 20, 40}},
		{"wraps", []uint32{1<<32 - 20, 1<<32 - 1, 5, 40}, []int64{1<<32 - 20, 1<<32 - 1, 1<<32 + 5, 1<<32 + 40}},
		{"audio and video around the wrap", []uint32{1<<32 - 20, 3, 1<<32 - 10, 13}, []int64{1<<32 - 20, 1<<32 + 3, 1<<32 - 10, 1<<32 + 13}},
		{"a little before zero", []uint32{5, 1<<32 - 6, 20}, []int64{5, -6, 20}},
		{"metadata at zero, media late", []uint32{0, 3000000000, 3000000020}, []int64{0, 3000000000, 3000000020}},
		{"steps back", []uint32{5000, 1000}, []int64{5000, 1000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var k clock
			var got []int64
			for _, ts := range c.in {
				got = append(got, k.unwrap(ts))
			}
			require.Equal(t, c.want, got)
		})
	}
}

func FuzzReader(f *testing.F) {
	f.Add(unhex(f, "04 000010 000002 08 01000000 aabb 84 000007 aabb c4 aabb"))
	f.Add(unhex(f, "02 000000 000004 01 00000000 00000001 01 ffff 000000 000003 08 01000000 01 c1 ffff 02 c1 ffff 03"))
	f.Add(unhex(f, "04 ffffff 000001 08 01000000 01000000 aa c4 01000000 bb"))
	f.Add(unhex(f, "02 000000 000004 02 00000000 00000004 02 000000 000004 05 00000000 00000001"))
	f.Add(AppendMessage(nil, typeVideo, 1<<30, nil, make([]byte, 300)))
	f.Fuzz(func(t *testing.T, wire []byte) {
		all := func(src io.Reader, size int) ([]message, error) {
			r := &reader{}
			r.init(src, size)
			r.expectMedia()
			m, err := readAll(r)
			require.LessOrEqual(t, r.held, maxHeld)
			require.LessOrEqual(t, len(r.streams), maxChunkStreams)
			return m, err
		}
		// The size of the buffer and of the pieces that come changes nothing.
		a, errA := all(bytes.NewReader(wire), 32)
		b, errB := all(iotest.OneByteReader(bytes.NewReader(wire)), 512)
		require.Equal(t, errA, errB)
		require.Equal(t, a, b)
		n := 0
		for _, m := range a {
			n += len(m.body)
		}
		require.LessOrEqual(t, n, len(wire))
	})
}

func BenchmarkReader(b *testing.B) {
	for _, chunk := range []int{128, 4096, PlayChunkSize} {
		b.Run(map[int]string{128: "128", 4096: "4096", PlayChunkSize: "60000"}[chunk], func(b *testing.B) {
			src := &loop{wire: appendChunks(nil, chunk, csidVideo, typeVideo, 0, streamID, nil, make([]byte, 5750))}
			r := newReader(src)
			r.resize(publishBuffer)
			r.expectMedia()
			r.chunkSize = uint32(chunk)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
