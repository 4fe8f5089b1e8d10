package record

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"strings"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// Repair completes what a process left unfinished that was killed or ran out of
// space: of each draft it makes the file that a Recorder would have made of what
// there is, up to the last whole fragment; HLS playlists it ends; for files that have
// no manifest it makes one. It returns what it
// has completed. What cannot be repaired stays, is logged, and is in the error; what
// nothing can be made of is removed.
//
// Call it at the start, before or while a Recorder runs: what is being written, by
// this process or another, is left alone.
func Repair(ctx context.Context, s stream.Storage, log *slog.Logger) ([]*Info, error) {
	if log == nil {
		log = slog.Default()
	}
	var done []*Info
	var errs []error
	report := func(name string, info *Info, err error) {
		switch {
		case err != nil:
			log.Warn("record: cannot repair", "file", name, "err", err)
			errs = append(errs, fmt.Errorf("record: cannot repair %q: %w", name, err))
		case info != nil:
			log.Info("record: repaired", "file", name, "duration", info.Duration, "bytes", info.Size)
			done = append(done, info)
		}
	}
	if ds, ok := s.(DraftStorage); ok {
		for d, err := range ds.Drafts(ctx) {
			if err != nil {
				errs = append(errs, err)
				break
			}
			info, err := repairDraft(ctx, s, d)
			report(d.Name(), info, err)
		}
	}
	left, err := unlisted(ctx, s)
	if err != nil {
		errs = append(errs, err)
	}
	for _, name := range left {
		if path.Base(name) == hlsIndex {
			info, err := repairHLS(ctx, s, name)
			report(name, info, err)
			continue
		}
		if info, err := describe(ctx, s, name); err == nil { // else it is no recording
			report(name, info, writeManifest(ctx, s, nil, info, info.Files))
		}
	}
	return done, errors.Join(errs...)
}

// repairDraft makes a file of a draft.
func repairDraft(ctx context.Context, s stream.Storage, d Draft) (*Info, error) {
	defer d.Leave() // unless it ends otherwise
	info := &Info{Repaired: true}
	if err := json.Unmarshal(d.Note(), info); err != nil || info.Name != d.Name() {
		info = &Info{Name: d.Name()} // somebody else's
		if info.Format.UnmarshalText([]byte(strings.TrimPrefix(path.Ext(d.Name()), "."))) != nil {
			return nil, errors.New("unknown format")
		}
	}
	info.Repaired = true
	if there, err := exists(ctx, s, info.Name); err != nil {
		return nil, err
	} else if there { // it had been completed, but for the draft's end
		if there, err = exists(ctx, s, info.Name+manifestSuffix); err != nil {
			return nil, err
		}
		if there {
			return nil, d.Remove()
		}
	}
	src, err := d.Reader(ctx)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	var whole int64
	var rewrite func(io.Writer) error
	switch info.Format {
	case FLV:
		x, err := scanFLV(src, d.Size())
		if err != nil {
			return nil, hopeless(err, d)
		}
		whole = x.size
		x.describe(info)
		rewrite = func(w io.Writer) error { return x.write(w, src) }
	default:
		x, err := scanMP4(src, d.Size())
		if err == nil && x.bytes == 0 {
			err = fmt.Errorf("%w: no samples", errNoMP4)
		}
		if err != nil {
			return nil, hopeless(err, d)
		}
		whole = x.whole
		x.describe(info)
		rewrite = func(w io.Writer) error { return x.writePlain(w, src, info.Start) }
	}
	file, err := store(ctx, s, info.Name, rewrite)
	if err == nil {
		err = d.Remove()
	} else if ctx.Err() == nil { // no space for a second one
		if err = d.Truncate(whole); err == nil {
			if err = d.Publish(ctx); err == nil {
				file, err = sum(ctx, s, info.Name)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	// It has lost its end, and who would sign for it is the operator.
	return info, writeManifest(ctx, s, nil, info, []FileInfo{file})
}

// hopeless removes a draft that has no media.
func hopeless(err error, d Draft) error {
	if errors.Is(err, errNoMP4) || errors.Is(err, errNoFLV) || errors.Is(err, io.ErrUnexpectedEOF) {
		if d.Size() < minDraft {
			return d.Remove()
		}
	}
	return err
}

// minDraft is the size below which a draft that cannot be read is not worth a look.
const minDraft = 64 << 10

// describe fills in what the file says of itself.
func (s *scanned) describe(info *Info) {
	info.Start = cmp.Or(info.Start, s.created.UTC())
	info.Frames, info.Tracks, info.Duration = 0, nil, 0
	for _, t := range s.mp4Index.tracks {
		if t.n == 0 {
			continue
		}
		info.Frames += int64(t.n)
		info.Duration = max(info.Duration, stream.FromTicks(t.end()-t.first, int(t.rate)))
		info.Tracks = append(info.Tracks, t.info())
	}
}

// unlisted returns the recordings that have no manifest and have not been written to
// for a while: HLS that has not been ended, and files for whose manifest there was no
// space.
func unlisted(ctx context.Context, s stream.Storage) (names []string, err error) {
	there, newest := make(map[string]bool), make(map[string]time.Time)
	var files []stream.StorageInfo
	for f, err := range s.List(ctx, "") {
		if err != nil {
			return nil, err
		}
		dir, base := path.Split(f.Name)
		if f.ModTime.After(newest[dir]) {
			newest[dir] = f.ModTime
		}
		ext := path.Ext(base)
		switch {
		case ext == manifestSuffix || ext == ".m3u8":
			there[f.Name] = true
		case ext != ".mp4" && ext != ".flv":
			continue
		}
		if ext != manifestSuffix {
			files = append(files, f)
		}
	}
	for _, f := range files {
		dir, base := path.Split(f.Name)
		old := f.ModTime
		if base == hlsIndex {
			old = newest[dir]
		} else if path.Ext(base) == ".m3u8" || there[dir+hlsIndex] {
			continue // of an HLS recording
		}
		if !there[f.Name+manifestSuffix] && time.Since(old) > quiet {
			names = append(names, f.Name)
		}
	}
	return names, nil
}

// describe reads what a file says of itself. Its stream is what the default template
// would have it called after.
func describe(ctx context.Context, s stream.Storage, name string) (*Info, error) {
	f, err := s.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info := &Info{Name: name, Stream: path.Dir(name), Repaired: true, Start: f.Info().ModTime.UTC()}
	if path.Ext(name) == ".flv" {
		x, err := scanFLV(f, f.Info().Size)
		if err != nil {
			return nil, err
		}
		info.Format = FLV
		x.describe(info)
	} else {
		x, err := scanMP4(f, f.Info().Size)
		if err != nil {
			return nil, err
		}
		if x.bytes == 0 {
			return nil, errEmpty
		}
		if !x.created.IsZero() {
			info.Start = x.created.UTC()
		}
		x.describe(info)
	}
	file, err := sum(ctx, s, name)
	info.Files = []FileInfo{file}
	return info, err
}

// describe fills in what the file says of itself.
func (x *flvIndex) describe(info *Info) {
	info.Duration, info.Tracks = x.duration(), nil
	for _, t := range x.tracks {
		info.Tracks = append(info.Tracks, trackInfo(t))
	}
}

// quiet is for how long nothing is written to an HLS recording that nobody writes:
// its segments are some seconds long.
const quiet = time.Minute

// repairHLS ends the playlists of a recording.
func repairHLS(ctx context.Context, s stream.Storage, name string) (*Info, error) {
	dir := strings.TrimSuffix(name, hlsIndex)
	info := &Info{Name: name, Format: HLS, Stream: path.Dir(path.Dir(name)), Repaired: true}
	var files []FileInfo
	for f, err := range s.List(ctx, dir) {
		if err != nil {
			return nil, err
		}
		if path.Ext(f.Name) == ".m3u8" && f.Name != name {
			text, err := readAll(ctx, s, f.Name)
			if err != nil {
				return nil, err
			}
			if !bytes.Contains(text, eventType) && !bytes.Contains(text, vodType) {
				return nil, nil // not ours
			}
			start, duration := playlistTimes(text)
			if info.Start.IsZero() || start.Before(info.Start) {
				info.Start = start
			}
			info.Duration = max(info.Duration, duration)
			if ended := vodPlaylist(bytes.Clone(text)); !bytes.Equal(ended, text) {
				if _, err := store(ctx, s, f.Name, func(w io.Writer) error { _, err := w.Write(ended); return err }); err != nil {
					return nil, err
				}
			}
		}
		file, err := sum(ctx, s, f.Name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return info, writeManifest(ctx, s, nil, info, files)
}

func readAll(ctx context.Context, s stream.Storage, name string) ([]byte, error) {
	f, err := s.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return b, nil
}

// playlistTimes returns when a media playlist begins and how long it is.
func playlistTimes(text []byte) (start time.Time, length time.Duration) {
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if value, ok := strings.CutPrefix(line, "#EXT-X-PROGRAM-DATE-TIME:"); ok && start.IsZero() {
			start, _ = time.Parse("2006-01-02T15:04:05.999999999Z07:00", value)
		}
		if value, ok := strings.CutPrefix(line, "#EXTINF:"); ok {
			seconds, _, _ := strings.Cut(value, ",")
			d, _ := time.ParseDuration(seconds + "s")
			length += d
		}
	}
	return start, length
}
