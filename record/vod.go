package record

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/fmp4"
	"github.com/runnel-media/runnel/stream"
)

// A vod is a plain MP4 file cut into segments of fragmented MP4, which are made when
// they are asked for.
type vod struct {
	index    *mp4Index
	tracks   []*stream.Track
	init     []byte
	segments []vodSegment
	shift    time.Duration // so that no time is below zero
}

// A vodSegment is the stretch from one cut to the next: of each track, the samples
// that are due then.
type vodSegment struct {
	start, end time.Duration
	from       []vodPlace // by track
}

// A vodPlace is where the samples of a segment begin.
type vodPlace struct {
	sample int   // number of the first
	packed int   // where it is in mp4Track.packed
	step   int64 // of the sample before it
	prev   mp4Sample
	chunk  int   // number of the track's chunk that it is in
	inside int64 // bytes of that chunk before it
}

// vodSegmentLength is the shortest segment; they begin with key frames.
const vodSegmentLength = 4 * time.Second

// newVOD reads the tables of a file.
func newVOD(src io.ReadSeeker, size int64) (*vod, error) {
	x, err := scanMP4(src, size)
	if err != nil {
		return nil, err
	}
	v := &vod{index: x.mp4Index}
	main := -1
	for i, t := range x.tracks {
		track := t.desc.stream()
		if track == nil || t.n == 0 {
			return nil, fmt.Errorf("record: a track of this file: %w", stream.ErrUnsupported)
		}
		if main < 0 || t.video && !x.tracks[main].video {
			main = i
		}
		v.tracks = append(v.tracks, track)
		v.shift = max(v.shift, -stream.FromTicks(t.first, int(t.rate)))
	}
	if v.init, err = fmp4.Init(v.tracks...); err != nil {
		return nil, err
	}
	v.cut(main)
	return v, nil
}

// cut finds the segments.
func (v *vod) cut(main int) {
	t := v.index.tracks[main]
	rate := int(t.rate)
	for s := range t.samples() {
		at := stream.FromTicks(s.dts, rate)
		if n := len(v.segments); n == 0 || s.key && at-v.segments[n-1].start >= vodSegmentLength {
			if n > 0 {
				v.segments[n-1].end = at
			}
			v.segments = append(v.segments, vodSegment{start: at, from: make([]vodPlace, len(v.tracks))})
		}
	}
	last := &v.segments[len(v.segments)-1]
	for _, t := range v.index.tracks {
		last.end = max(last.end, stream.FromTicks(t.end(), int(t.rate)))
	}
	for i := range v.index.tracks {
		v.place(i)
	}
}

// place finds where each segment begins in a track.
func (v *vod) place(i int) {
	t := v.index.tracks[i]
	sizes := make([]int, 0, t.chunks) // samples of the track's chunks
	for c := range v.index.all() {
		if c.track == i {
			sizes = append(sizes, c.samples)
		}
	}
	r := t.reader()
	chunk, left, inside := 0, 0, int64(0)
	if len(sizes) > 0 {
		left = sizes[0]
	}
	next := 0
	for n := 0; ; n++ {
		place := vodPlace{sample: n, packed: r.at, step: r.step, prev: r.prev, chunk: chunk, inside: inside}
		s, ok := r.next()
		for next < len(v.segments) && (!ok || next == 0 || stream.FromTicks(s.dts, int(t.rate)) >= v.segments[next].start) {
			v.segments[next].from[i] = place
			next++
		}
		if !ok {
			return
		}
		inside += s.size
		if left--; left == 0 {
			chunk, inside = chunk+1, 0
			if chunk < len(sizes) {
				left = sizes[chunk]
			}
		}
	}
}

// segment makes a segment.
func (v *vod) segment(src io.ReadSeeker, n int) ([]byte, error) {
	runs := make([]fmp4.Run, 0, len(v.tracks))
	for i, track := range v.tracks {
		run, err := v.run(src, i, track, n)
		if err != nil {
			return nil, err
		}
		runs = append(runs, run)
	}
	return fmp4.AppendPart(nil, uint32(n+1), runs...), nil
}

// maxVODSegment bounds the bytes of a segment of one track: without key frames it is
// as long as the file.
const maxVODSegment = 256 << 20

// run reads the samples of a segment in a track.
func (v *vod) run(src io.ReadSeeker, i int, track *stream.Track, n int) (fmp4.Run, error) {
	t := v.index.tracks[i]
	from := v.segments[n].from[i]
	count := t.n - from.sample
	if n+1 < len(v.segments) {
		count = v.segments[n+1].from[i].sample - from.sample
	}
	run := fmp4.Run{Track: track}
	if count <= 0 {
		return run, nil
	}
	r := t.reader()
	r.at, r.step, r.prev = from.packed, from.step, from.prev
	frames := make([]stream.Frame, count)
	sizes := make([]int64, count)
	total := int64(0)
	for k := range frames {
		s, ok := r.next()
		if !ok {
			return run, io.ErrUnexpectedEOF
		}
		frames[k] = stream.Frame{
			Track: track, Key: s.key,
			DTS: stream.FromTicks(s.dts, int(t.rate)) + v.shift, PTS: stream.FromTicks(s.pts, int(t.rate)) + v.shift,
		}
		sizes[k] = s.size
		run.Frames = append(run.Frames, &frames[k])
		total += s.size
	}
	if s, ok := r.next(); ok {
		run.Next = stream.FromTicks(s.dts, int(t.rate)) + v.shift
	} else {
		run.Next = stream.FromTicks(t.end(), int(t.rate)) + v.shift
	}
	if total > maxVODSegment {
		return run, fmt.Errorf("record: segment of %d bytes: %w", total, stream.ErrUnsupported)
	}
	data := make([]byte, total)
	if err := v.read(src, i, from, data); err != nil {
		return run, err
	}
	for k := range frames {
		frames[k].Data, data = data[:sizes[k]:sizes[k]], data[sizes[k]:]
	}
	return run, nil
}

// read reads what a track has from a place on.
func (v *vod) read(src io.ReadSeeker, i int, from vodPlace, data []byte) error {
	number := 0
	for c := range v.index.all() {
		if c.track != i {
			continue
		}
		if number++; number-1 < from.chunk {
			continue
		}
		offset, size := c.offset, c.size
		if number-1 == from.chunk {
			offset, size = offset+from.inside, size-from.inside
		}
		size = min(size, int64(len(data)))
		if _, err := src.Seek(offset, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.ReadFull(src, data[:size]); err != nil {
			return noEOF(err)
		}
		if data = data[size:]; len(data) == 0 {
			return nil
		}
	}
	return io.ErrUnexpectedEOF
}

// playlist lists the segments. query goes behind each name.
func (v *vod) playlist(query string) []byte {
	longest := time.Duration(0)
	for _, s := range v.segments {
		longest = max(longest, s.end-s.start)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:%d\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"init.mp4%s\"\n",
		max(1, int((longest+time.Second/2)/time.Second)), query)
	for i, s := range v.segments {
		fmt.Fprintf(&b, "#EXTINF:%.6f,\n%d.m4s%s\n", (s.end - s.start).Seconds(), i, query)
	}
	b.WriteString("#EXT-X-ENDLIST\n")
	return []byte(b.String())
}

// A vodCache keeps the tables of the files that were asked for last.
type vodCache struct {
	mu   sync.Mutex
	list []cachedVOD // the last used at the end
}

type cachedVOD struct {
	name    string
	size    int64
	changed time.Time
	v       *vod
}

// maxVODs bounds the files whose tables are kept: a megabyte for each hour of one.
const maxVODs = 16

// open returns the tables of a file, and the file.
func (c *vodCache) open(ctx context.Context, s stream.Storage, name string) (*vod, stream.StorageReader, error) {
	f, err := s.Open(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	info := f.Info()
	c.mu.Lock()
	for i, e := range c.list {
		if e.name == name && e.size == info.Size && e.changed.Equal(info.ModTime) {
			c.list = append(append(c.list[:i:i], c.list[i+1:]...), e)
			c.mu.Unlock()
			return e.v, f, nil
		}
	}
	c.mu.Unlock()
	v, err := newVOD(f, info.Size)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, cachedVOD{name, info.Size, info.ModTime, v})
	if len(c.list) > maxVODs {
		c.list = append([]cachedVOD(nil), c.list[1:]...)
	}
	return v, f, nil
}

// serveVOD serves a file of an MP4 recording as HLS.
func (h *Handler) serveVOD(w http.ResponseWriter, r *http.Request, info *Info, part string) error {
	if info.Format != MP4 {
		return fs.ErrNotExist
	}
	v, f, err := h.vod.open(r.Context(), h.Library.Storage, info.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	var b []byte
	switch number, isSegment := strings.CutSuffix(part, ".m4s"); {
	case part == hlsIndex:
		w.Header().Set("Content-Type", types[".m3u8"])
		b = v.playlist(h.query(r))
	case part == "init.mp4":
		w.Header().Set("Content-Type", types[".mp4"])
		b = v.init
	case isSegment:
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 || n >= len(v.segments) {
			return fs.ErrNotExist
		}
		w.Header().Set("Content-Type", types[".m4s"])
		if b, err = v.segment(f, n); err != nil {
			return err
		}
	default:
		return fs.ErrNotExist
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(b)
	}
	return nil
}

// query is what a playlist puts behind the names in it, so that they can be fetched
// as it was.
func (h *Handler) query(r *http.Request) string {
	q, kept := r.URL.Query(), url.Values{}
	for _, k := range []string{"expires", "signature", "token"} {
		if v := q.Get(k); v != "" {
			kept.Set(k, v)
		}
	}
	if len(kept) == 0 {
		return ""
	}
	return "?" + kept.Encode()
}

// servePlaylist serves a playlist of an HLS recording, with the query behind each
// name in it.
func (h *Handler) servePlaylist(w http.ResponseWriter, r *http.Request, f io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-cache")
	if q := h.query(r); q != "" {
		b = []byte(withQuery(string(b), q))
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(b)
	}
	return nil
}

func withQuery(playlist, query string) string {
	var b strings.Builder
	for line := range strings.Lines(playlist) {
		text := strings.TrimRight(line, "\r\n")
		if before, rest, ok := strings.Cut(text, `URI="`); ok && strings.HasPrefix(text, "#") {
			uri, after, _ := strings.Cut(rest, `"`)
			text = before + `URI="` + uri + query + `"` + after
		} else if text != "" && !strings.HasPrefix(text, "#") {
			text += query
		}
		b.WriteString(text + "\n")
	}
	return b.String()
}
