package transcode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A soundMaker writes one rendition. It is used by one goroutine.
type soundMaker struct {
	audio *Audio
	src   *stream.Subscriber
	out   *stream.Publisher
	to    stream.Codec
	since time.Time // what came before is left out

	tracks []*stream.Track // of the source, as its frames have had them
	sound  *stream.Track   // of them: the one that is heard
	made   *stream.Track   // what it becomes; sound itself if it is in the codec already; nil: nothing
	stated *stream.Track   // what the Publisher has been told
	line   *soundLine      // nil: nothing is to be done, or it has failed
	again  time.Duration   // PTS from which another attempt is made
	told   bool            // that sound has failed
	frame  *stream.Frame   // of the source, that is being dealt with
}

// retryCodec is after how much sound a codec that failed is tried again.
const retryCodec = time.Second

// backlog is how much of what the stream has kept becomes Opus for the first reader:
// enough for the codecs to settle. WebRTC plays what is now, and would take more for a
// delay of the network. Players of AAC begin with the key frame, as the stream's do.
const backlog = 100 * time.Millisecond

// make is a stream.Derivation's Make.
func (a *Audio) make(ctx context.Context, src *stream.Subscriber, out *stream.Publisher, to stream.Codec) error {
	m := &soundMaker{audio: a, src: src, out: out, to: to}
	defer m.stop()
	if to == stream.Opus {
		m.since = time.Now().Add(-backlog)
	}
	m.tracks = src.Tracks()
	if len(m.tracks) > 0 {
		if err := m.state(0); err != nil {
			return err
		}
	}
	var batch [32]*stream.Frame
	for {
		n, err := src.Read(ctx, batch[:])
		for _, f := range batch[:n] {
			if err := m.write(f); err != nil {
				return err
			}
		}
		clear(batch[:n])
		if errors.Is(err, io.EOF) {
			m.run(0, (*soundLine).drain)
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// write takes a frame of the source. The error is the Publisher's.
func (m *soundMaker) write(f *stream.Frame) error {
	if f.Track.Kind() != stream.Audio || f.Arrived().Before(m.since) {
		return nil
	}
	if !slices.Contains(m.tracks, f.Track) {
		// Another configuration, or another track. The stream may be ahead of
		// the frame.
		tracks := slices.Clone(m.src.Tracks())
		if i := slices.IndexFunc(tracks, func(t *stream.Track) bool { return t.ID == f.Track.ID }); i >= 0 {
			tracks[i] = f.Track
		} else {
			tracks = append(tracks, f.Track)
		}
		m.tracks = tracks
		if err := m.state(f.PTS); err != nil {
			return err
		}
	}
	if f.Track != m.sound {
		return nil
	}
	if m.passes() {
		g := *f // which the Publisher takes
		return m.out.Write(&g)
	}
	if m.line == nil && f.PTS >= m.again {
		m.begin(f.PTS)
		if err := m.restate(); err != nil {
			return err
		}
	}
	m.frame = f
	m.run(f.PTS, func(l *soundLine) error { return l.write(f) })
	m.frame = nil
	return nil
}

// passes reports whether the sound is in the codec already.
func (m *soundMaker) passes() bool { return m.sound.Codec == m.to }

// state prepares for the sound that there is.
func (m *soundMaker) state(at time.Duration) error {
	if sound := firstSound(m.tracks); sound != m.sound {
		m.run(at, (*soundLine).drain)
		m.stop()
		m.sound, m.told = sound, false
		switch {
		case sound == nil:
			m.made = nil
		case m.passes():
			m.made = sound
		default:
			m.begin(at)
		}
	}
	return m.restate()
}

// restate tells the Publisher the track, if it is another one.
func (m *soundMaker) restate() error {
	if m.made == nil || m.made == m.stated {
		return nil
	}
	m.stated = m.made
	return m.out.SetTracks(m.made)
}

// begin makes the codecs for the sound.
func (m *soundMaker) begin(at time.Duration) {
	old := m.made
	m.made = nil
	err := caught(func() error {
		d, err := m.audio.decoder(m.sound)
		if err != nil {
			return err
		}
		e, err := m.audio.encoder(soundForm{m.to, d.Format()})
		if err != nil {
			d.Close()
			return err
		}
		line, err := newSoundLine(d, e, m.heard)
		if err != nil {
			return err
		}
		line.exact = m.sound.Codec == stream.Opus
		made := *e.Track()
		made.ID, made.Language = m.sound.ID, m.sound.Language
		m.line, m.made = line, &made
		return nil
	})
	if err != nil {
		m.fail(at, err)
	} else if sameTrack(old, m.made) {
		m.made = old
	}
}

// run does something with the codecs, if there are any.
func (m *soundMaker) run(at time.Duration, f func(*soundLine) error) {
	if m.line == nil {
		return
	}
	if err := caught(func() error { return f(m.line) }); err != nil {
		m.fail(at, err)
	}
}

// fail lets the sound pause for a second and then begin anew, if that can be of use.
func (m *soundMaker) fail(at time.Duration, err error) {
	m.stop()
	m.again = at + retryCodec
	if errors.Is(err, stream.ErrUnsupported) {
		m.again = math.MaxInt64
	}
	if !m.told {
		m.told = true
		m.audio.missing(m.out.Stream().Name(), m.sound.Codec, m.to, err)
	}
}

// heard writes a packet. A Publisher that has ended comes with the end of the ctx.
func (m *soundMaker) heard(pts time.Duration, broken bool, packet []byte) {
	f := &stream.Frame{Track: m.made, DTS: pts, PTS: pts, Key: true, Discontinuity: broken, Data: packet}
	if m.frame != nil {
		f.Time = m.frame.Time.Add(pts - m.frame.PTS)
	}
	_ = m.out.Write(f)
}

// stop closes the codecs.
func (m *soundMaker) stop() {
	if m.line != nil {
		_ = caught(func() error { m.line.close(); return nil })
		m.line = nil
	}
}

// caught calls f, and returns its panic as an error: codecs read what peers send.
func caught(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("transcode: a codec panicked: %v", p)
		}
	}()
	return f()
}
