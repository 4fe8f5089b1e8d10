package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
)

// hlsFiles writes HLS as SRS does: a playlist and MPEG-TS segments for each
// stream, where any web server finds them.
type hlsFiles struct {
	hub *stream.Hub
	set *settings
	log *slog.Logger

	writers sync.WaitGroup
	mu      sync.Mutex
	streams map[string]*hlsPlaylist // by hub key, until they are disposed of
}

// run follows the hub until it is closed, or ctx ends.
func (h *hlsFiles) run(ctx context.Context) {
	defer h.writers.Wait()
	for e := range h.hub.Events(ctx) {
		switch e := e.(type) {
		case stream.StreamStarted:
			h.start(ctx, e.Stream)
		case stream.EventsLost:
			for s := range h.hub.Streams() {
				if !h.follows(s.Name()) {
					h.start(ctx, s.Name())
				}
			}
		}
	}
}

// follows reports whether a stream is being written.
func (h *hlsFiles) follows(key string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.streams[key]
	if list == nil || !list.turn.TryLock() {
		return list != nil
	}
	list.turn.Unlock()
	return false
}

// start writes a stream, if its virtual host has HLS.
func (h *hlsFiles) start(ctx context.Context, key string) {
	v, app, name := h.set.place(key)
	if !v.hls.enabled {
		return
	}
	sub, err := h.hub.Subscribe(ctx, key, nil)
	if err != nil {
		return // it has ended already
	}
	h.mu.Lock()
	if h.streams == nil {
		h.streams = make(map[string]*hlsPlaylist)
	}
	list := h.streams[key]
	if list == nil {
		list = &hlsPlaylist{h: h, v: v, key: key, app: app, name: name, file: expand(v.hls.m3u8, v.name, app, name, 0, time.Now(), 0)}
		h.streams[key] = list
	}
	h.mu.Unlock()
	h.writers.Go(func() {
		defer sub.Close()
		if err := list.follow(ctx, sub); err != nil {
			h.log.Warn("HLS files", "stream", key, "err", err)
		}
	})
}

// An hlsPlaylist is a stream, and what there is of it in files. One goroutine at a
// time follows a stream.
type hlsPlaylist struct {
	h              *hlsFiles
	v              *vhost
	key, app, name string
	file           string // of the playlist

	turn     sync.Mutex // held by who follows
	segments []hlsSegment
	removed  uint64 // discontinuities of segments that are not listed any more
	seq      uint64 // of the next segment
	dispose  *time.Timer
}

type hlsSegment struct {
	file   string
	seq    uint64
	length time.Duration
	broken bool // a discontinuity is before it
}

// maxSegment bounds a segment in bytes, if no key frame comes.
const maxSegment = 64 << 20

// follow writes segments until the stream ends.
func (l *hlsPlaylist) follow(ctx context.Context, sub *stream.Subscriber) error {
	l.turn.Lock()
	defer l.turn.Unlock()
	if l.dispose != nil {
		l.dispose.Stop()
	}
	if err := os.MkdirAll(l.v.hls.path, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(l.v.hls.path)
	if err != nil {
		return err
	}
	defer root.Close()
	w := &segmenter{list: l, root: root, broken: len(l.segments) > 0}
	var batch [64]*stream.Frame
	for {
		n, readErr := sub.Read(ctx, batch[:])
		if tracks := sub.Tracks(); !slices.Equal(tracks, w.tracks) {
			if err := w.configure(tracks); err != nil {
				return err
			}
		}
		for _, f := range batch[:n] {
			if err := w.add(f); err != nil {
				return err
			}
		}
		clear(batch[:n])
		if readErr != nil {
			break
		}
	}
	if err := w.cut(w.last); err != nil {
		return err
	}
	l.later()
	return l.write(root, true)
}

// A segmenter makes segments of frames.
type segmenter struct {
	list   *hlsPlaylist
	root   *os.Root
	tracks []*stream.Track
	video  bool
	mux    mpegts.Muxer

	buf    []byte
	begin  time.Duration // DTS of the first frame
	last   time.Duration
	at     time.Time
	broken bool
}

// configure takes the tracks that an MPEG-TS can have.
func (w *segmenter) configure(tracks []*stream.Track) error {
	w.tracks = tracks
	w.video = false
	var sent []*stream.Track
	for _, t := range tracks {
		if mpegts.Supports(t) == nil && t.Kind() != stream.Data {
			sent = append(sent, t)
			w.video = w.video || t.Kind() == stream.Video
		}
	}
	if err := w.cut(w.last); err != nil {
		return err
	}
	return w.mux.Configure(sent)
}

func (w *segmenter) add(f *stream.Frame) error {
	kind := f.Track.Kind()
	if kind == stream.Data || mpegts.Supports(f.Track) != nil {
		return nil
	}
	start := !w.video || kind == stream.Video && f.Key
	passed := f.DTS - w.begin
	if f.Discontinuity || len(w.buf) >= maxSegment || start && len(w.buf) > 0 && passed >= w.list.v.hls.fragment {
		end := f.DTS
		if f.Discontinuity {
			end = w.last
		}
		if err := w.cut(end); err != nil {
			return err
		}
		w.broken = w.broken || f.Discontinuity
	}
	if len(w.buf) == 0 {
		if !start {
			return nil
		}
		w.begin, w.at = f.DTS, f.Time
		w.buf = w.mux.AppendTables(w.buf)
	}
	w.last = max(f.DTS, w.begin)
	w.buf = w.mux.AppendFrame(w.buf, f)
	return nil
}

// cut ends a segment, if there is one.
func (w *segmenter) cut(end time.Duration) error {
	if len(w.buf) == 0 {
		return nil
	}
	l := w.list
	h := &l.v.hls
	s := hlsSegment{seq: l.seq, length: max(end-w.begin, time.Millisecond), broken: w.broken}
	s.file = expand(h.ts, l.v.name, l.app, l.name, s.seq, w.at.In(l.h.set.location), s.length)
	if err := store(w.root, s.file, w.buf); err != nil {
		return err
	}
	w.buf, w.broken = w.buf[:0], false
	l.seq++
	l.segments = append(l.segments, s)
	for rest := l.length(); len(l.segments) > 1 && rest-l.segments[0].length >= h.window; rest = l.length() {
		if l.segments[0].broken {
			l.removed++
		}
		if h.cleanup {
			_ = w.root.Remove(filepath.FromSlash(l.segments[0].file))
		}
		l.segments = l.segments[1:]
	}
	if err := l.write(w.root, false); err != nil {
		return err
	}
	l.h.hub.ReportSegment(stream.SegmentStored{
		Time: time.Now(), Stream: l.key, Name: s.file, Playlist: l.file, Sequence: s.seq, Duration: s.length,
	})
	return nil
}

func (l *hlsPlaylist) length() (sum time.Duration) {
	for _, s := range l.segments {
		sum += s.length
	}
	return sum
}

// write stores the playlist.
func (l *hlsPlaylist) write(root *os.Root, ended bool) error {
	if len(l.segments) == 0 {
		return nil
	}
	longest := time.Duration(0)
	for _, s := range l.segments {
		longest = max(longest, s.length)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-MEDIA-SEQUENCE:%d\n#EXT-X-TARGETDURATION:%d\n", l.segments[0].seq, int(math.Ceil(longest.Seconds())))
	if l.removed > 0 {
		fmt.Fprintf(&b, "#EXT-X-DISCONTINUITY-SEQUENCE:%d\n", l.removed)
	}
	for _, s := range l.segments {
		if s.broken {
			b.WriteString("#EXT-X-DISCONTINUITY\n")
		}
		fmt.Fprintf(&b, "#EXTINF:%.3f,\n%s\n", s.length.Seconds(), l.uri(s.file))
	}
	if ended {
		b.WriteString("#EXT-X-ENDLIST\n")
	}
	return store(root, l.file, []byte(b.String()))
}

// uri is how the playlist names a segment.
func (l *hlsPlaylist) uri(file string) string {
	if prefix := l.v.hls.prefix; prefix != "" {
		return strings.TrimSuffix(prefix, "/") + "/" + file
	}
	rel, err := filepath.Rel(filepath.FromSlash(path.Dir(l.file)), filepath.FromSlash(file))
	if err != nil {
		return file
	}
	return filepath.ToSlash(rel)
}

// later removes all of it, if nobody publishes it again in time.
func (l *hlsPlaylist) later() {
	if l.v.hls.dispose <= 0 || !l.v.hls.cleanup {
		return
	}
	l.dispose = time.AfterFunc(l.v.hls.dispose, func() {
		if !l.turn.TryLock() {
			return // it is published
		}
		defer l.turn.Unlock()
		l.h.mu.Lock()
		if l.h.streams[l.key] == l {
			delete(l.h.streams, l.key)
		}
		l.h.mu.Unlock()
		if root, err := os.OpenRoot(l.v.hls.path); err == nil {
			defer root.Close()
			_ = root.Remove(filepath.FromSlash(l.file))
			for _, s := range l.segments {
				_ = root.Remove(filepath.FromSlash(s.file))
			}
		}
	})
}

// store writes a file below root, whole or not at all.
func store(root *os.Root, name string, b []byte) error {
	name = filepath.FromSlash(name)
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := root.WriteFile(name+".tmp", b, 0o644); err != nil {
		return err
	}
	return root.Rename(name+".tmp", name)
}
