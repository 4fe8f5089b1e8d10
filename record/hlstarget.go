package record

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"path"
	"slices"
	"time"

	"github.com/runnel-media/runnel/internal/hls"
	"github.com/runnel-media/runnel/stream"
)

// hlsIndex is the file of an HLS recording that is played.
const hlsIndex = "index.m3u8"

// An hlsTarget writes segments as they are made, and playlists of type EVENT of those
// that are complete, which can be played at any moment and end with the recording.
type hlsTarget struct {
	ctx     context.Context
	storage stream.Storage
	dir     string
	live    *stream.Stream

	pack    *hls.Packager
	tracks  []*stream.Track
	archive hls.Archive
	seen    []hls.Rendition
	files   []FileInfo
	inits   map[string]bool
	making  [hls.Renditions]making
	size    int64
	err     error // of the storage
}

// A making is a rendition's segment in the making.
type making struct {
	file *summed // nil: none
	out  *bufio.Writer
}

func newHLSTarget(ctx context.Context, r *Recorder, info *Info, live *stream.Stream) *hlsTarget {
	t := &hlsTarget{ctx: ctx, storage: r.Storage, dir: path.Dir(info.Name), live: live, inits: make(map[string]bool)}
	// No parts, and nothing is kept of what is written.
	t.pack = hls.New(hls.Config{Segment: 2 * time.Second, Part: -1, Window: time.Second, OnData: t.data, OnSegment: t.segment})
	return t
}

func (t *hlsTarget) takes(f *stream.Frame) verdict {
	if f.Track.Kind() == stream.Data {
		return skip
	}
	return take
}

func (t *hlsTarget) write(f *stream.Frame) error {
	if tracks := t.live.Tracks(); len(tracks) > 0 && !slices.Equal(tracks, t.tracks) {
		t.tracks = tracks
		t.pack.SetTracks(tracks...)
	}
	t.pack.Add(f)
	return t.err
}

func (t *hlsTarget) written() int64 { return t.size }

// data writes bytes of a segment.
func (t *hlsTarget) data(s *hls.Segment, b []byte) {
	if t.err != nil {
		return
	}
	m := &t.making[s.Rendition]
	if m.file == nil {
		if m.file, t.err = create(t.ctx, t.storage, t.dir+"/"+s.Name()); t.err != nil {
			m.file = nil
			return
		}
		if m.out == nil {
			m.out = bufio.NewWriterSize(nil, writeBuffer)
		}
		m.out.Reset(m.file)
	}
	_, t.err = m.out.Write(b)
}

// stored makes the segment of a rendition be there.
func (t *hlsTarget) stored(r hls.Rendition) {
	m := &t.making[r]
	if m.file == nil {
		return
	}
	if t.err = m.out.Flush(); t.err != nil {
		return
	}
	info, err := m.file.finish()
	if err != nil {
		t.err = err
		return
	}
	m.file = nil
	t.add(info)
}

// segment stores a segment, what it needs, and the playlist that lists it.
func (t *hlsTarget) segment(s *hls.Segment) {
	if s.Rendition == hls.TS || t.err != nil {
		return
	}
	if s.Init != nil && !t.inits[s.Init.Name()] {
		t.inits[s.Init.Name()] = true
		t.put(t.ctx, s.Init.Name(), func(w io.Writer) error {
			_, err := w.Write(s.Init.Data)
			return err
		})
	}
	if t.err == nil {
		t.stored(s.Rendition)
	}
	if t.err != nil {
		return
	}
	t.archive.Add(s, true)
	t.playlist(t.ctx, s.Rendition, false)
	if !slices.Contains(t.seen, s.Rendition) {
		t.seen = append(t.seen, s.Rendition)
		t.multivariant(t.ctx)
	}
}

func (t *hlsTarget) playlist(ctx context.Context, r hls.Rendition, ended bool) {
	b := t.archive.Playlist(r, ended)
	if ended {
		b = vodPlaylist(b)
	}
	t.put(ctx, r.String()+".m3u8", func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

// A playlist that grows says the one, and when it is complete the other: ffmpeg
// seeks in no other.
var eventType, vodType = []byte("#EXT-X-PLAYLIST-TYPE:EVENT\n"), []byte("#EXT-X-PLAYLIST-TYPE:VOD\n")

const endList = "#EXT-X-ENDLIST\n"

// vodPlaylist ends a playlist.
func vodPlaylist(b []byte) []byte {
	b = bytes.Replace(b, eventType, vodType, 1)
	if !bytes.Contains(b, []byte(endList)) {
		b = append(b, endList...)
	}
	return b
}

func (t *hlsTarget) multivariant(ctx context.Context) {
	if b := t.archive.Multivariant(""); b != nil {
		t.put(ctx, hlsIndex, func(w io.Writer) error {
			_, err := w.Write(b)
			return err
		})
	}
}

// put stores a file of the recording, anew if it is there.
func (t *hlsTarget) put(ctx context.Context, file string, write func(io.Writer) error) {
	if t.err != nil {
		return
	}
	info, err := store(ctx, t.storage, t.dir+"/"+file, write)
	if err != nil {
		t.err = err
		return
	}
	t.add(info)
}

// add lists a file of the recording.
func (t *hlsTarget) add(info FileInfo) {
	i := slices.IndexFunc(t.files, func(f FileInfo) bool { return f.Name == info.Name })
	if i < 0 {
		i = len(t.files)
		t.files = append(t.files, FileInfo{})
	}
	t.size += info.Size - t.files[i].Size
	t.files[i] = info
}

func (t *hlsTarget) complete(ctx context.Context, _ time.Duration, failed error) ([]FileInfo, error) {
	if failed == nil {
		t.pack.End()
		failed = t.err
	}
	for i := range t.making {
		if file := t.making[i].file; file != nil {
			_ = file.Abort()
		}
	}
	if len(t.seen) == 0 {
		if failed == nil {
			failed = errEmpty
		}
		return nil, failed
	}
	// What has been stored can be played: say that it ends there.
	t.err = nil
	for _, r := range t.seen {
		t.playlist(ctx, r, true)
	}
	t.multivariant(ctx)
	return t.files, t.err
}
