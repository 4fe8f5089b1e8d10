package webrtc

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"
	pion "github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/rtp"
	"github.com/runnel-media/runnel/stream"
)

// A lossy path between one client and the server, in a bubble of synctest: it
// loses, delays and so shuffles datagrams in both directions.
type lossy struct {
	mu            sync.Mutex
	rng           *rand.Rand
	sent          int
	loss          float64
	delay, jitter time.Duration
}

// An end of it is a net.Conn for the client and a net.PacketConn for the server.
type end struct {
	*lossy
	name, peer *net.UDPAddr
	in, out    chan []byte
	closed     chan struct{}
	once       sync.Once
}

func (l *lossy) ends() (client, server *end) {
	l.rng = rand.New(rand.NewPCG(1, 2))
	a, b := &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1000}, &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 2000}
	up, down := make(chan []byte, 4096), make(chan []byte, 4096)
	return &end{lossy: l, name: a, peer: b, in: down, out: up, closed: make(chan struct{})},
		&end{lossy: l, name: b, peer: a, in: up, out: down, closed: make(chan struct{})}
}

func (e *end) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case d := <-e.in:
		return copy(b, d), e.peer, nil
	case <-e.closed:
		return 0, nil, net.ErrClosed
	}
}

func (e *end) WriteTo(b []byte, _ net.Addr) (int, error) {
	e.mu.Lock()
	gone, late := e.rng.Float64() < e.loss, e.delay+time.Duration(e.rng.Float64()*float64(e.jitter))
	e.sent++
	late += time.Duration(e.sent) // what leaves at one time is in order
	e.mu.Unlock()
	if !gone {
		d := bytes.Clone(b)
		time.AfterFunc(late, func() {
			select {
			case e.out <- d:
			default:
			}
		})
	}
	return len(b), nil
}

func (e *end) Read(b []byte) (int, error) {
	n, _, err := e.ReadFrom(b)
	return n, err
}
func (e *end) Write(b []byte) (int, error) { return e.WriteTo(b, nil) }
func (e *end) Close() error {
	e.once.Do(func() { close(e.closed) })
	return nil
}
func (e *end) LocalAddr() net.Addr              { return e.name }
func (e *end) RemoteAddr() net.Addr             { return e.peer }
func (e *end) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (e *end) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (e *end) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// worsen makes it what is required: 5 % lost and 30 ms of jitter each way.
func (l *lossy) worsen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loss, l.jitter = 0.05, 30*time.Millisecond
}

// over serves a Transport over a path that is still good, within a bubble.
func over(t *testing.T) (*lossy, *Transport, *client) {
	t.Helper()
	path := &lossy{delay: 10 * time.Millisecond}
	near, far := path.ends()
	tr := &Transport{}
	go func() { _ = tr.ServePacket(far) }()
	synctest.Wait()
	c := newClient(t)
	c.path = near
	return path, tr, c
}

const (
	lossFPS     = 30
	lossSeconds = 30
)

// smooth is what came of a video.
type smooth struct {
	frames int
	last   time.Time
	freeze time.Duration // the longest
}

func (s *smooth) frame(now time.Time) {
	if s.frames++; s.frames > 1 {
		s.freeze = max(s.freeze, now.Sub(s.last))
	}
	s.last = now
}

func (s *smooth) check(t *testing.T) {
	t.Helper()
	require.GreaterOrEqual(t, s.frames*1000, lossFPS*lossSeconds*999-999, "but for one: 99.9 %")
	require.LessOrEqual(t, s.freeze, 500*time.Millisecond)
}

// Over a bad network all that a publisher sends arrives.
func TestPublishOverLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, tr, c := over(t)
		defer tr.Close()
		var mu sync.Mutex
		var got smooth
		connected := make(chan struct{})
		_, answer, err := tr.Receive(c.offer(videoLine(0, "a=sendonly\r\n")), true, Handler{
			Connected: func() { close(connected) },
			Frame: func(_ *Incoming, f Frame) {
				mu.Lock()
				defer mu.Unlock()
				if len(f.Data) == 4000 && !f.Lost {
					got.frame(time.Now())
				}
			},
		})
		require.NoError(t, err)
		c.dial(answer)
		require.NoError(t, c.connect())
		wait(t, connected)

		type sent struct {
			stamp   uint32
			marker  bool
			payload []byte
		}
		var log []sent
		again, plis, nacks := uint16(0), 0, 0
		frames := time.NewTicker(time.Second / lossFPS)
		defer frames.Stop()
		for n := 0; n < lossFPS*(lossSeconds+1); {
			select {
			case b := <-c.packets:
				plain, err := c.in.DecryptRTCP(nil, b, nil)
				require.NoError(t, err)
				packets, err := rtcp.Unmarshal(plain)
				require.NoError(t, err)
				for _, p := range packets {
					switch p := p.(type) {
					case *rtcp.PictureLossIndication:
						plis++
					case *rtcp.TransportLayerNack:
						for i := range p.Nacks {
							for _, seq := range p.Nacks[i].PacketList() {
								s := log[seq]
								c.send(vp8RTX, 99, again, s.stamp, s.marker, append([]byte{byte(seq >> 8), byte(seq)}, s.payload...))
								again++
								nacks++
							}
						}
					}
				}
			case <-frames.C:
				n++
				if n > lossFPS*lossSeconds { // what is still on its way
					continue
				}
				picture := bytes.Repeat([]byte{0x11, 7}, 2000)
				if n == 1 {
					picture[0] = 0x10
				} else if n == 2 {
					path.worsen()
				}
				payloads := (&rtp.VP8{}).Pack(nil, picture, n == 1, 1100)
				for i, p := range payloads {
					s := sent{uint32(n * 3000), i == len(payloads)-1, p}
					c.send(vp8, 1, uint16(len(log)), s.stamp, s.marker, p)
					log = append(log, s)
				}
			}
		}
		mu.Lock()
		defer mu.Unlock()
		t.Logf("%d frames, %d packets and %d again, %d PLI, longest freeze %v", got.frames, len(log), nacks, plis, got.freeze)
		got.check(t)
		require.LessOrEqual(t, plis, 2)
		require.Less(t, nacks, len(log), "it asks for no more than it needs")
	})
}

// Over a bad network a viewer that asks again sees everything.
func TestPlayOverLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, tr, c := over(t)
		defer tr.Close()
		connected := make(chan struct{})
		keys := 0
		video := &stream.Track{ID: 1, Codec: stream.VP8}
		s, answer, err := tr.Send(c.offer(videoLine(0, "a=recvonly\r\n")), []*stream.Track{video}, Handler{
			Connected: func() { close(connected) }, KeyNeeded: func() { keys++ },
		})
		require.NoError(t, err)
		var f Feed
		f.SetTrack(video, &rtp.VP8{})
		f.Add(s)
		c.dial(answer)
		require.NoError(t, c.connect())
		wait(t, connected)

		receiver := rtp.Receiver{Rate: 90000}
		assemble := rtp.Frames{Unpacker: &rtp.VP8{}}
		ssrc := s.outgoing.tracks[0].ssrc
		var got smooth
		pop := func() {
			for {
				p, ok := receiver.Pop(time.Now())
				if !ok {
					return
				}
				assemble.Push(&p, func(f rtp.Frame) { got.frame(time.Now()) })
			}
		}
		frames := time.NewTicker(time.Second / lossFPS)
		ask := time.NewTicker(10 * time.Millisecond)
		defer frames.Stop()
		defer ask.Stop()
		for n := 0; n < lossFPS*(lossSeconds+1); {
			select {
			case b := <-c.packets:
				if b[1] >= 192 && b[1] < 224 {
					continue
				}
				plain, err := c.in.DecryptRTP(nil, b, nil)
				require.NoError(t, err)
				var p pion.Packet
				require.NoError(t, p.Unmarshal(plain))
				in := rtp.Packet{Sequence: p.SequenceNumber, Timestamp: p.Timestamp, Marker: p.Marker, Payload: p.Payload, Arrived: time.Now()}
				if p.PayloadType == vp8RTX {
					in.Sequence, in.Payload, in.Again = binary.BigEndian.Uint16(p.Payload), p.Payload[2:], true
				}
				receiver.Push(in)
				pop()
			case <-ask.C:
				pop()
				if missing := receiver.Missing(nil, time.Now(), 50*time.Millisecond); len(missing) > 0 {
					c.sendRTCP(&rtcp.ReceiverReport{}, &rtcp.TransportLayerNack{MediaSSRC: ssrc, Nacks: rtcp.NackPairsFromSequenceNumbers(missing)})
				}
			case <-frames.C:
				if n++; n <= lossFPS*lossSeconds {
					picture := bytes.Repeat([]byte{0x11, 7}, 2000)
					if n == 1 {
						picture[0] = 0x10
					} else if n == 2 {
						path.worsen()
					}
					at := time.Duration(n) * time.Second / lossFPS
					f.Write(&stream.Frame{Track: video, PTS: at, DTS: at, Key: n == 1, Data: picture}, time.Now())
				}
			}
		}
		st := s.Stats()
		t.Logf("%d frames, %+v, %d key frames asked for, longest freeze %v", got.frames, st, keys, got.freeze)
		got.check(t)
		require.Greater(t, st.Repeated, st.Packets/40)
		require.Less(t, st.Repeated, st.Packets)
	})
}
