package deliver

import (
	"context"
	"net/url"
	"slices"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// usualSound returns the codec in which all players of a container know sound; 0:
// they know what the container can carry.
func (c container) usualSound() stream.Codec {
	switch c {
	case containerFLV, containerRTMP, containerTS, containerAAC:
		return stream.AAC
	}
	return 0
}

// wantedSound returns the codec in which a peer is to get sound, if it can be had: what it
// asks for with "audio" in the query, or else what players of the container know. Who
// lists Opus among its codecs knows that too.
func wantedSound(r *auth.Request, c container) stream.Codec {
	values, _ := url.ParseQuery(r.RawQuery) // what of it is well-formed
	var asked stream.Codec
	if err := asked.UnmarshalText([]byte(values.Get("audio"))); err == nil && asked.Kind() == stream.Audio {
		return asked
	}
	if slices.Contains(r.Accept, "*") || slices.Contains(r.Accept, fourCC(stream.Opus)) {
		return 0
	}
	return c.usualSound()
}

// rendition returns the rendition that is sent in place of the stream's own sound,
// nil if that is sent, or there is none.
func (k feedKey) rendition(m muxer) *stream.Rendition {
	r, _ := soundOf(k.stream.Tracks(), k.stream.Renditions(), k.sound, k.carries(m))
	return r
}

func (k feedKey) carries(m muxer) func(*stream.Track) bool {
	return func(t *stream.Track) bool { return k.takes(m, t) == nil }
}

// soundOf returns the rendition of a stream's sound to take in place of the sound
// itself: one in the wanted codec, or, if the sound can't be carried, in any codec that
// can. It is nil if the sound is to be taken as it is published; lacking tells that there
// is none in the wanted codec: a rendition comes a moment after the track, if it does.
func soundOf(tracks []*stream.Track, renditions []*stream.Rendition, wanted stream.Codec, carries func(*stream.Track) bool) (r *stream.Rendition, lacking bool) {
	var own, fits, convertible bool
	for _, t := range tracks {
		if t.Kind() != stream.Audio {
			continue
		}
		own = true
		switch t.Codec {
		case stream.AAC, stream.Opus, stream.PCMA, stream.PCMU:
			convertible = true
		}
		if carries(t) {
			if wanted == 0 || t.Codec == wanted {
				return nil, false
			}
			fits = true
		}
	}
	if !own {
		return nil, false
	}
	for _, made := range renditions {
		t := made.Tracks()
		switch {
		case len(t) != 1 || t[0].Kind() != stream.Audio || !carries(t[0]):
		case t[0].Codec == wanted:
			return made, false
		case !fits && (r == nil || t[0].Codec == stream.AAC):
			r = made
		}
	}
	return r, r == nil && convertible
}

// tracks returns those of the stream, with the rendition's in place of its sound.
func (k feedKey) tracks(m muxer) []*stream.Track {
	return withSound(k.stream.Tracks(), k.rendition(m))
}

// withSound returns tracks with those of a rendition, unless it is nil, in place of the
// sound among them.
func withSound(tracks []*stream.Track, sound *stream.Rendition) []*stream.Track {
	if sound == nil {
		return tracks
	}
	tracks = slices.DeleteFunc(slices.Clone(tracks), func(t *stream.Track) bool { return t.Kind() == stream.Audio })
	return append(tracks, sound.Tracks()...)
}

// A dubbing reads the rendition that is sent in place of a stream's own sound, if there
// is one. It is used by one goroutine, the one that reads the stream.
type dubbing struct {
	stream   *stream.Stream
	wanted   stream.Codec // as soundOf
	carries  func(*stream.Track) bool
	patience time.Duration // how long the stream's own sound is left out for a rendition that is lacking

	tracks  []*stream.Track // of the stream, and
	made    []*stream.Rendition
	want    *stream.Rendition // what is wanted of them
	lacking bool
	from    *stream.Rendition  // what is read; nil: the sound is the stream's own
	sub     *stream.Subscriber // of from
	tried   time.Time          // when from failed
	since   time.Time          // when the rendition was first seen to be lacking
}

// dubAgain is how long a rendition that cannot be read is left alone.
const dubAgain = time.Second

// look finds out what is wanted of what there is now.
func (d *dubbing) look() {
	tracks, made := d.stream.Tracks(), d.stream.Renditions()
	if slices.Equal(tracks, d.tracks) && slices.Equal(made, d.made) {
		return
	}
	d.tracks, d.made = tracks, made
	d.want, d.lacking = soundOf(tracks, made, d.wanted, d.carries)
	if d.lacking && d.since.IsZero() {
		d.since = time.Now()
	}
}

// follow sees to it that the rendition is read that is wanted now.
func (d *dubbing) follow() {
	d.look()
	if d.want == d.from {
		return
	}
	d.close()
	if d.want == nil || time.Since(d.tried) < dubAgain {
		return
	}
	sub, err := d.want.Subscribe(nil)
	if err != nil { // what makes it has just ended
		d.tried = time.Now()
		return
	}
	d.from, d.sub = d.want, sub
}

// replaces reports whether a frame of the stream is left out.
func (d *dubbing) replaces(f *stream.Frame) bool {
	if f.Track.Kind() != stream.Audio {
		return false
	}
	return d.sub != nil || d.lacking && time.Since(d.since) < d.patience
}

// read calls add with the frames that there are of the rendition.
func (d *dubbing) read(add func([]*stream.Frame)) {
	if d.sub == nil {
		return
	}
	var batch [32]*stream.Frame
	for d.sub != nil {
		n, err := d.sub.TryRead(batch[:])
		add(batch[:n])
		clear(batch[:n])
		if err != nil {
			d.tried = time.Now()
			d.close()
		}
		if n < len(batch) {
			return
		}
	}
}

// rest calls add with what is still to come of the rendition of a stream that has ended.
func (d *dubbing) rest(ctx context.Context, add func([]*stream.Frame)) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var batch [32]*stream.Frame
	for d.sub != nil {
		n, err := d.sub.Read(ctx, batch[:])
		add(batch[:n])
		if err != nil {
			d.close()
		}
	}
}

func (d *dubbing) close() {
	if d.sub != nil {
		d.sub.Close()
	}
	d.from, d.sub = nil, nil
}
