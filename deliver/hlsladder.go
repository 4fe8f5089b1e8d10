package deliver

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/hls"
	"github.com/runnel-media/runnel/stream"
)

const (
	maxRungs = 3
	// ladderPatience is how long the first viewer waits for the other pictures:
	// what makes them has to begin, and a segment of theirs to be whole.
	ladderPatience = 6 * time.Second
	// ladderRetry is how often those that are missing are asked for.
	ladderRetry = time.Second
)

// A ladder is the renditions of a stream's picture, such as transcode.Ladder makes
// them, while somebody watches. Its frames go to the packager beside those of the
// stream itself, as further tracks of video.
type ladder struct {
	stream *stream.Stream

	// owned by hlsRun.follow
	rungs [maxRungs]rung
	asked time.Time

	mu    sync.Mutex
	ready chan struct{} // closed when all are there; nil: nobody has waited
	over  bool          // ready is closed
}

// A rung is one of them.
type rung struct {
	name  string             // "": there is none
	sub   *stream.Subscriber // nil: it is not read now
	track *stream.Track      // as it is
	known *stream.Track      // and as the packager knows it
}

// pictures returns the renditions that are further pictures of a stream.
func pictures(s *stream.Stream) (list []*stream.Rendition) {
	for _, r := range s.Renditions() {
		isVideo := func(t *stream.Track) bool { return t.Kind() == stream.Video }
		if len(list) < maxRungs && (r.Info().Width > 0 || slices.ContainsFunc(r.Tracks(), isVideo)) {
			list = append(list, r)
		}
	}
	return list
}

// climb begins to read the renditions that there are, if they are wanted, or lets go
// of them.
func (l *ladder) climb(now time.Time, wanted bool) {
	if !wanted {
		l.close()
		return
	}
	if now.Sub(l.asked) < ladderRetry {
		return
	}
	l.asked = now
	for i, rendition := range pictures(l.stream) {
		r := &l.rungs[i]
		if r.name != rendition.Name() { // another has taken its place
			r.close()
			r.name = rendition.Name()
		}
		if r.sub == nil {
			r.sub, _ = rendition.Subscribe(nil) // it may come later
		}
	}
}

// tracks returns those of the stream and of the renditions.
func (l *ladder) tracks(tracks []*stream.Track) []*stream.Track {
	tracks = slices.Clip(tracks)
	for i := range l.rungs {
		if t := l.rungs[i].known; t != nil {
			tracks = append(tracks, t)
		}
	}
	return tracks
}

// read gives the packager the pictures that there are of the renditions. tracks are
// the stream's own.
func (l *ladder) read(pack *hls.Packager, tracks []*stream.Track) {
	var batch [32]*stream.Frame
	for i := range l.rungs {
		r := &l.rungs[i]
		for r.sub != nil {
			n, err := r.sub.TryRead(batch[:])
			for _, f := range batch[:n] {
				if f.Track.Kind() != stream.Video {
					continue
				}
				if r.track != f.Track { // IDs of renditions count for themselves
					known := *f.Track
					known.ID = uint8(255 - i)
					r.track, r.known = f.Track, &known
					pack.SetTracks(l.tracks(tracks)...)
				}
				adopted := *f
				adopted.Track = r.known
				pack.Add(&adopted)
			}
			if err != nil {
				r.close()
			}
			if n < len(batch) {
				break
			}
		}
	}
	clear(batch[:])
}

// check tells those who wait if all renditions are there.
func (l *ladder) check(pack *hls.Packager) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ready == nil || l.over || l.rungs[0].name == "" {
		return
	}
	for i := range l.rungs {
		segs := pack.View(hls.Video2 + hls.Rendition(i)).Segments
		if l.rungs[i].name != "" && (len(segs) == 0 || segs[len(segs)-1].Gap) {
			return
		}
	}
	close(l.ready)
	l.over = true
}

// await waits, some time, until all renditions are there.
func (l *ladder) await(ctx context.Context) {
	if len(pictures(l.stream)) == 0 {
		return
	}
	l.mu.Lock()
	if l.ready == nil {
		l.ready = make(chan struct{})
	}
	ready := l.ready
	l.mu.Unlock()
	select {
	case <-ready:
	case <-ctx.Done():
	case <-time.After(ladderPatience):
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.ready == ready && !l.over { // who comes next need not wait in vain too
			close(ready)
			l.over = true
		}
	}
}

// close lets go of all renditions. What makes them ends some time later.
func (l *ladder) close() {
	for i := range l.rungs {
		l.rungs[i].close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		l.ready, l.over = nil, false
	}
}

func (r *rung) close() {
	if r.sub != nil {
		r.sub.Close()
		r.sub = nil
	}
}
