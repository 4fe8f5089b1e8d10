package streamtest_test

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// The tests of this file are written as a host would write its own. They show
// the two things that testing/synctest gives to live media: a long time passes
// at once, and a goroutine that is left over fails the test.

// posters is part of some host: it saves a key frame of a stream now and then,
// until the stream ends.
func posters(ctx context.Context, hub *stream.Hub, name string, every time.Duration, save func(*stream.Frame)) error {
	sub, err := hub.Subscribe(ctx, name, &stream.SubscribeOptions{Wait: time.Minute})
	if err != nil {
		return err
	}
	defer sub.Close()
	var next time.Duration
	for f, err := range sub.Frames(ctx) {
		if err != nil {
			return err
		}
		if f.Track.Kind() == stream.Video && f.Key && f.DTS >= next {
			save(f)
			next = f.DTS + every
		}
	}
	return nil
}

// An hour of a live stream that begins half a minute late, in real time as far
// as the code under test can tell; it takes less than a second.
func TestPosters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub stream.Hub
		defer hub.Close()
		start := time.Now()
		go func() {
			time.Sleep(30 * time.Second)
			src := &streamtest.Source{Duration: time.Hour}
			if err := src.Run(t.Context(), &hub, "live/cam"); err != nil {
				t.Error(err)
			}
		}()

		var saved []time.Time
		err := posters(t.Context(), &hub, "live/cam", time.Minute, func(*stream.Frame) {
			saved = append(saved, time.Now())
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(saved) != 60 {
			t.Fatalf("%d posters", len(saved))
		}
		for i, at := range saved {
			if want := start.Add(30*time.Second + time.Duration(i)*time.Minute); !at.Equal(want) {
				t.Errorf("poster %d at %v, want %v", i, at, want)
			}
		}
	})
}

// The same when nobody ever publishes: the minute of waiting passes at once.
func TestPostersWithoutStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hub stream.Hub
		defer hub.Close()
		err := posters(t.Context(), &hub, "live/cam", time.Minute, nil)
		if !errors.Is(err, stream.ErrNotFound) {
			t.Fatal(err)
		}
	})
}

// send is part of some host too: it sends the frames' data to a peer, which may
// be slow, but not for more than five seconds at a time.
func send(ctx context.Context, c net.Conn, sub *stream.Subscriber) error {
	defer c.Close()
	defer sub.Close()
	for f, err := range sub.Frames(ctx) {
		if err != nil {
			return err
		}
		c.SetWriteDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Write(f.Data); err != nil {
			return err
		}
	}
	return nil
}

// A peer that never reads is given up after the buffer is full and five seconds
// have passed.
func TestSendToStalledPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := streamtest.Net{Buffer: 50_000}
		defer network.Close()
		listener, err := network.Listen(":9000")
		if err != nil {
			t.Fatal(err)
		}
		peer, err := network.Dial(t.Context(), "tcp", "server.example:9000")
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}

		var hub stream.Hub
		defer hub.Close()
		p, err := hub.Publish(t.Context(), "live/cam", nil)
		if err != nil {
			t.Fatal(err)
		}
		pattern := &streamtest.Pattern{NoAudio: true, KeySize: 1000, FrameSize: 1000} // 25 kB/s
		if err := p.SetTracks(pattern.Tracks()...); err != nil {
			t.Fatal(err)
		}
		sub, err := hub.Subscribe(t.Context(), "live/cam", nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		go streamtest.Feed(ctx, p, pattern.Frames(-1), 1)
		defer stop()

		start := time.Now()
		if err := send(t.Context(), conn, sub); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 2*time.Second+5*time.Second {
			t.Errorf("gave up after %v", took)
		}
	})
}
