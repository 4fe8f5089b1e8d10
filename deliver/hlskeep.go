package deliver

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/runnel-media/runnel/internal/hls"
	"github.com/runnel-media/runnel/stream"
)

const (
	// orphaned is how long a stored playlist without an end has not grown when
	// nobody writes to it any more: its server was killed. No segment is that long.
	orphaned = time.Minute
	// maxStoredPlaylist bounds one that is read, bytes: three times what 10,000
	// segments with all their tags take.
	maxStoredPlaylist = 8 << 20

	storeLayout = "20060102T150405.000Z" // of the start in the name of a presentation
	storeEnd    = "#EXT-X-ENDLIST\n"
)

// tend looks after what is stored until ctx ends: presentations without an end get
// one, and those that are older than HLS.Keep go.
func (s *Server) tend(ctx context.Context) {
	if s.HLS.Storage == nil {
		return
	}
	report := func(err error) {
		if err != nil && ctx.Err() == nil {
			s.log().Warn("deliver: cannot look after stored HLS", "err", err)
		}
	}
	left, err := s.unended(ctx)
	report(err)
	wait := orphaned
	for {
		if s.HLS.Keep > 0 {
			report(s.prune(ctx, time.Now().Add(-max(s.HLS.Keep, orphaned))))
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		if left != nil {
			report(s.endStored(ctx, left))
			left = nil
		}
		wait = min(max(s.HLS.Keep/10, orphaned), time.Hour)
	}
}

// unended returns the stored media playlists that have no end.
func (s *Server) unended(ctx context.Context) (left []stream.StorageInfo, err error) {
	for info, err := range s.HLS.Storage.List(ctx, "") {
		if err != nil {
			return left, err
		}
		_, file, ok := storedName(info.Name)
		if _, media := hls.ParsePlaylistName(file); !ok || !media {
			continue
		}
		text, _, err := s.readStored(ctx, info.Name)
		if err != nil {
			return left, err
		}
		if !bytes.HasSuffix(text, []byte(storeEnd)) {
			left = append(left, info)
		}
	}
	return left, nil
}

// endStored ends those playlists that have not changed since they were found.
func (s *Server) endStored(ctx context.Context, left []stream.StorageInfo) error {
	var failed error
	for _, was := range left {
		text, is, err := s.readStored(ctx, was.Name)
		if err == nil && is.ModTime.Equal(was.ModTime) && is.Size == was.Size {
			err = write(ctx, s.HLS.Storage, was.Name, [][]byte{text, []byte(storeEnd)})
		}
		failed = cmp.Or(failed, err)
	}
	return failed
}

func (s *Server) readStored(ctx context.Context, file string) (text []byte, info stream.StorageInfo, err error) {
	r, err := s.HLS.Storage.Open(ctx, file)
	if errors.Is(err, fs.ErrNotExist) { // by now
		return nil, stream.StorageInfo{}, nil
	}
	if err != nil {
		return nil, stream.StorageInfo{}, err
	}
	defer r.Close()
	info = r.Info()
	if info.Size > maxStoredPlaylist {
		return nil, info, fmt.Errorf("deliver: stored playlist %s has %d bytes", file, info.Size)
	}
	text, err = io.ReadAll(r)
	return text, info, err
}

// storedName takes the name of a stored file of a presentation apart.
func storedName(name string) (dir, file string, ok bool) {
	dir, file = path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	_, err := time.Parse(storeLayout, path.Base(dir))
	return dir, file, err == nil && path.Dir(dir) != "."
}

// prune removes presentations that nothing was added to since before, and what
// leads to them.
func (s *Server) prune(ctx context.Context, before time.Time) error {
	var failed error
	remove := func(files ...string) {
		for _, f := range files {
			if err := s.HLS.Storage.Remove(ctx, f); !errors.Is(err, fs.ErrNotExist) {
				failed = cmp.Or(failed, err)
			}
		}
	}
	var p struct { // the presentation whose files are being listed
		dir              string
		playlists, media []string
		newest           time.Time
	}
	left := make(map[string]bool) // whether streams have presentations left
	settle := func() {
		if p.dir == "" {
			return
		}
		old := p.newest.Before(before)
		if old { // nobody is to begin with what is going
			remove(append(p.playlists, p.media...)...)
		}
		left[path.Dir(p.dir)] = left[path.Dir(p.dir)] || !old
	}
	for info, err := range s.HLS.Storage.List(ctx, "") { // in the order of names: index.m3u8 is behind what begins with a year
		if err != nil {
			return err
		}
		dir, file, ok := storedName(info.Name)
		if dir != p.dir || !ok {
			settle()
			p.dir, p.playlists, p.media, p.newest = "", nil, nil, time.Time{}
		}
		stays, known := left[dir]
		switch {
		case ok:
			p.dir = dir
			if strings.HasSuffix(file, ".m3u8") {
				p.playlists = append(p.playlists, info.Name)
			} else {
				p.media = append(p.media, info.Name)
			}
			if info.ModTime.After(p.newest) {
				p.newest = info.ModTime
			}
		case file == "index.m3u8" && known && !stays:
			remove(info.Name)
		}
	}
	settle()
	return failed
}
