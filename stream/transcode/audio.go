package transcode

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// Audio adds renditions of the sound in another codec to the streams of a hub: "opus"
// for WebRTC players, if a stream's sound is AAC or G.711, and "aac" for players of
// FLV, HLS and MPEG-TS, if it is Opus or G.711. A rendition is the sound alone, with the
// track ID of what it is made of: an output that finds it by its tracks or its name
// reads it (SubscribeOptions.Rendition) beside the stream, and leaves the stream's own
// sound out. Nothing runs until somebody does, and then once, however many do; "opus"
// begins with what is heard then, "aac" with the key frame before.
//
// Times are exact: packets carry the time at which a decoder's output for them is to
// be heard, the delay of either codec taken off, and follow the source's timeline
// within 5 ms however its clock may drift. What is missing is concealed up to a second.
//
// HE-AAC, more than two channels, MP3 and AC-3 are not transcoded; of several tracks of
// sound the first is. What can't be had is logged and told by a stream.SoundMissing
// event. A codec that fails, or panics, begins anew after a second.
type Audio struct {
	Hub *stream.Hub
	Log *slog.Logger // nil: slog.Default()

	// AAC decodes and encodes AAC, such as goaac.Codec, which is a package of its
	// own because of its license. nil: there is none.
	AAC Codec
	// Opus does Opus. nil: Opus{}.
	Opus Codec

	Match  func(streamName string) bool // which streams have renditions; nil: all
	Linger time.Duration                // how long a rendition outlives its last reader; 0: 10 s

	// owned by Run
	streams map[string]*soundOf
	tracks  map[soundForm]*stream.Track // what encoders write, by what they are given
}

// soundOf is what a stream has been given.
type soundOf struct {
	stream  *stream.Stream
	sound   *stream.Track
	removes map[stream.Codec]func()
}

type soundForm struct {
	codec stream.Codec
	pcm   Format
}

// targets are the codecs that renditions are made in. Each is named like its codec.
var targets = [...]stream.Codec{stream.Opus, stream.AAC}

// Run adds renditions to the hub's streams, and removes them again when ctx ends, whose
// error it returns, or nil when the hub is closed. It can be called once.
func (a *Audio) Run(ctx context.Context) error {
	if a.Hub == nil {
		return errors.New("transcode: Audio without a Hub")
	}
	a.streams = make(map[string]*soundOf)
	a.tracks = make(map[soundForm]*stream.Track)
	events := a.Hub.Events(ctx)
	a.scan()
	for e := range events {
		switch e := e.(type) {
		case stream.TracksChanged:
			a.consider(a.Hub.Stream(e.Stream))
		case stream.StreamEnded:
			if s := a.streams[e.Stream]; s != nil && a.Hub.Stream(e.Stream) != s.stream {
				delete(a.streams, e.Stream)
			}
		case stream.EventsLost:
			a.scan()
		}
	}
	for _, s := range a.streams {
		for _, remove := range s.removes {
			remove()
		}
	}
	return ctx.Err()
}

func (a *Audio) scan() {
	for name, s := range a.streams {
		if a.Hub.Stream(name) != s.stream {
			delete(a.streams, name)
		}
	}
	for s := range a.Hub.Streams() {
		a.consider(s)
	}
}

// consider gives a stream, which may be nil, the renditions that its sound needs.
func (a *Audio) consider(s *stream.Stream) {
	if s == nil || a.Match != nil && !a.Match(s.Name()) {
		return
	}
	of := a.streams[s.Name()]
	if of == nil || of.stream != s {
		of = &soundOf{stream: s, removes: make(map[stream.Codec]func())}
		a.streams[s.Name()] = of
	}
	sound := firstSound(s.Tracks())
	if sound == of.sound || sound != nil && sound.Same(of.sound) {
		return
	}
	of.sound = sound
	for _, to := range targets {
		made, err := a.made(sound, to)
		if err != nil {
			a.missing(s.Name(), sound.Codec, to, err)
		}
		remove := of.removes[to]
		switch {
		case made == nil && remove != nil:
			delete(of.removes, to)
			remove()
		case made != nil && remove == nil:
			remove, err := s.Derive(&stream.Derivation{
				Renditions: []stream.RenditionInfo{{Name: to.String(), Tracks: []*stream.Track{made}}},
				Linger:     a.Linger,
				Make: func(ctx context.Context, src *stream.Subscriber, outs []*stream.Publisher) error {
					return a.make(ctx, src, outs[0], to)
				},
			})
			if err != nil { // the stream has ended, or the host has a rendition of that name
				a.log().Debug("transcode: no rendition", "stream", s.Name(), "rendition", to, "err", err)
				continue
			}
			of.removes[to] = remove
		}
	}
}

// made returns what sound becomes in another codec, nil if it is in that codec, or
// why it cannot.
func (a *Audio) made(sound *stream.Track, to stream.Codec) (*stream.Track, error) {
	if sound == nil || sound.Codec == to {
		return nil, nil
	}
	var track *stream.Track
	err := caught(func() error {
		d, err := a.decoder(sound)
		if err != nil {
			return err
		}
		form := soundForm{to, d.Format()}
		d.Close()
		track = a.tracks[form]
		if track == nil {
			e, err := a.encoder(form)
			if err != nil {
				return err
			}
			track = e.Track()
			e.Close()
			a.tracks[form] = track
		}
		t := *track
		t.ID, t.Language = sound.ID, sound.Language
		track = &t
		return nil
	})
	if err != nil {
		return nil, err
	}
	return track, nil
}

func (a *Audio) decoder(t *stream.Track) (Decoder, error) {
	switch t.Codec {
	case stream.Opus:
		return a.opus().NewDecoder(t)
	case stream.PCMA, stream.PCMU:
		return g711{}.NewDecoder(t)
	case stream.AAC:
		if a.AAC == nil {
			return nil, errNoAAC
		}
		return a.AAC.NewDecoder(t)
	}
	return nil, unsupported("no decoder of %v", t.Codec)
}

func (a *Audio) encoder(form soundForm) (Encoder, error) {
	if form.codec == stream.Opus {
		return a.opus().NewEncoder(form.pcm)
	}
	if a.AAC == nil {
		return nil, errNoAAC
	}
	return a.AAC.NewEncoder(form.pcm)
}

var errNoAAC = unsupported("Audio.AAC is not set: this program has no codec for AAC")

func (a *Audio) opus() Codec {
	if a.Opus != nil {
		return a.Opus
	}
	return Opus{}
}

// missing says that sound is missing.
func (a *Audio) missing(name string, codec, wanted stream.Codec, err error) {
	a.log().Warn("transcode: sound is missing", "stream", name, "codec", codec, "wanted", wanted, "err", err)
	a.Hub.ReportSoundMissing(stream.SoundMissing{Stream: name, Codec: codec, Wanted: wanted, Err: err})
}

func (a *Audio) log() *slog.Logger { return cmp.Or(a.Log, slog.Default()) }

// firstSound returns the track that is transcoded, or nil.
func firstSound(tracks []*stream.Track) *stream.Track {
	for _, t := range tracks {
		if t.Kind() == stream.Audio {
			return t
		}
	}
	return nil
}

// sameTrack reports whether frames of either may say that they are of the other.
func sameTrack(a, b *stream.Track) bool {
	return a != nil && b != nil && a.Same(b) && a.Language == b.Language && bytes.Equal(a.Config, b.Config)
}
