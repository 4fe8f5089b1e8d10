package deliver

import (
	"time"

	"github.com/runnel-media/runnel/stream"
)

// keyEvery is how old the place may become at which a player starts, before the
// publisher is asked for another.
const keyEvery = 4 * time.Second

// A keyWish asks a stream's publisher for key frames, if it can be asked: one that
// publishes by WebRTC makes none by itself, and without them nobody can join, and no
// segment ends.
type keyWish struct {
	stream *stream.Stream
	last   time.Time // when one came, or was asked for
}

// saw is told of every frame.
func (k *keyWish) saw(f *stream.Frame) {
	if f.Key && f.Track.Kind() == stream.Video {
		k.last = time.Now()
	}
}

// every asks for one if none has come for so long.
func (k *keyWish) every(d time.Duration) {
	if now := time.Now(); now.Sub(k.last) >= d {
		k.last = now
		k.stream.RequestKey()
	}
}
