package record

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// A Library is the recordings in a storage: those that have a manifest, as a
// Recorder writes it. Set its fields before first use; all methods may be called
// from many goroutines at once.
type Library struct {
	Storage stream.Storage
	Log     *slog.Logger // nil: slog.Default()

	// Audit is told of each recording that is deleted, before that is done. An
	// error refuses. nil: it is logged only.
	Audit func(ctx context.Context, d Deletion) error

	mu    sync.Mutex
	infos map[string]cachedInfo // by name of the manifest
}

// A cachedInfo is a manifest that has been read, as long as it does not change.
type cachedInfo struct {
	size    int64
	changed time.Time
	info    *Info
}

// A Deletion is what Library.Audit is told.
type Deletion struct {
	Time   time.Time
	Info   *Info  // not to be modified
	By     string // who deletes; "retention" for Retain
	Reason string
}

// A Query chooses recordings. Zero fields choose all.
type Query struct {
	Prefix   string // of the recording's name
	Stream   string // its stream
	Session  string
	From, To time.Time // recordings of which some lies between the two
	Limit    int       // the newest so many
}

func (q *Query) wants(i *Info) bool {
	return (q.Stream == "" || i.Stream == q.Stream) && (q.Session == "" || i.Session == q.Session) &&
		(q.From.IsZero() || i.End().After(q.From)) && (q.To.IsZero() || i.Start.Before(q.To))
}

// List returns recordings, the newest first. What it returns is shared, and not to
// be modified.
func (l *Library) List(ctx context.Context, q Query) ([]*Info, error) {
	var list []*Info
	for f, err := range l.Storage.List(ctx, q.Prefix) {
		if err != nil {
			return nil, err
		}
		name, ok := strings.CutSuffix(f.Name, manifestSuffix)
		if !ok {
			continue
		}
		info, err := l.info(ctx, name, f)
		switch {
		case errors.Is(err, fs.ErrNotExist): // deleted meanwhile
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			l.log().Warn("record: manifest", "file", f.Name, "err", err)
		case q.wants(info):
			list = append(list, info)
		}
	}
	slices.SortStableFunc(list, func(a, b *Info) int { return b.Start.Compare(a.Start) })
	if q.Limit > 0 && len(list) > q.Limit {
		list = list[:q.Limit]
	}
	return list, nil
}

// info returns a manifest that List has found.
func (l *Library) info(ctx context.Context, name string, f stream.StorageInfo) (*Info, error) {
	l.mu.Lock()
	c, ok := l.infos[f.Name]
	l.mu.Unlock()
	if ok && c.size == f.Size && c.changed.Equal(f.ModTime) {
		return c.info, nil
	}
	info, err := readInfo(ctx, l.Storage, name)
	if err == nil && info.Name != name {
		err = fmt.Errorf("record: it is that of %q", info.Name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		delete(l.infos, f.Name)
		return nil, err
	}
	if l.infos == nil || len(l.infos) >= maxCached {
		l.infos = make(map[string]cachedInfo)
	}
	l.infos[f.Name] = cachedInfo{f.Size, f.ModTime, info}
	return info, nil
}

// maxCached bounds the manifests that are kept in memory.
const maxCached = 100_000

// Info returns the recording with a name, or an error that wraps fs.ErrNotExist.
func (l *Library) Info(ctx context.Context, name string) (*Info, error) {
	info, err := readInfo(ctx, l.Storage, name)
	if err == nil && info.Name != name {
		err = fmt.Errorf("record: the manifest of %q is that of %q", name, info.Name)
	}
	return info, err
}

// Delete deletes a recording: its files, then its manifest, so that it can be tried
// again if it fails. by and reason are for Audit.
func (l *Library) Delete(ctx context.Context, name, by, reason string) error {
	info, err := l.Info(ctx, name)
	if err != nil {
		return err
	}
	d := Deletion{Time: time.Now(), Info: info, By: by, Reason: reason}
	if l.Audit != nil {
		if err := l.Audit(ctx, d); err != nil {
			return fmt.Errorf("record: deletion of %q refused: %w", name, err)
		}
	}
	l.log().Info("record: deleting", "file", name, "stream", info.Stream, "by", by, "reason", reason)
	for _, f := range info.Files {
		if !owns(name, f.Name) {
			continue // a manifest that somebody has written
		}
		if err := l.Storage.Remove(ctx, f.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return l.Storage.Remove(ctx, name+manifestSuffix)
}

// owns reports whether a file can belong to a recording: it is the recording, or of
// an HLS recording and in its directory.
func owns(name, file string) bool {
	dir, hls := strings.CutSuffix(name, "/"+hlsIndex)
	return file == name || hls && strings.HasPrefix(file, dir+"/")
}

// Retain deletes what a Retention does not allow, the oldest first, and returns how
// many recordings that was.
func (l *Library) Retain(ctx context.Context, keep Retention) (deleted int, err error) {
	if !keep.bounds() {
		return 0, nil
	}
	list, err := l.List(ctx, Query{})
	if err != nil {
		return 0, err
	}
	now, bytes, counts := time.Now(), int64(0), make(map[string]int)
	reasons := make([]string, len(list))
	for i, info := range list { // the newest first
		switch {
		case keep.Age > 0 && now.Sub(info.End()) > keep.Age:
			reasons[i] = "age"
		case keep.Count > 0 && counts[info.Stream] >= keep.Count:
			reasons[i] = "count"
		case keep.Bytes > 0 && bytes+info.Size > keep.Bytes:
			reasons[i] = "size"
			bytes = keep.Bytes // nothing that is older is kept instead
		default:
			counts[info.Stream]++
			bytes += info.Size
		}
	}
	var errs []error
	for i, info := range slices.Backward(list) {
		if reasons[i] == "" {
			continue
		}
		if err := l.Delete(ctx, info.Name, "retention", reasons[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
			continue
		}
		deleted++
	}
	return deleted, errors.Join(errs...)
}

func (l *Library) log() *slog.Logger {
	if l.Log != nil {
		return l.Log
	}
	return slog.Default()
}
