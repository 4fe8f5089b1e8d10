package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/audit"
	"github.com/runnel-media/runnel/internal/config"
	"github.com/runnel-media/runnel/record"
	"github.com/runnel-media/runnel/record/s3store"
	"github.com/runnel-media/runnel/stream"
)

// recordOptions are the flags that begin with -record, and -s3.
type recordOptions struct {
	patterns config.List
	dir      string
	format   record.Format
	segment  time.Duration
	rewind   time.Duration
	keep     record.Retention
	s3       string
}

func (o *recordOptions) flags(fs *flag.FlagSet) {
	fs.Var(&o.patterns, "record", `streams to record, such as "live/*" or "**"; may be repeated`)
	fs.StringVar(&o.dir, "record-dir", "recordings", "directory for recordings")
	fs.TextVar(&o.format, "record-format", record.MP4, "mp4, flv or hls")
	fs.DurationVar(&o.segment, "record-segment", 0, "begin another file after so much, at a key frame; 0: one file a stream")
	fs.DurationVar(&o.rewind, "record-rewind", 0, "how much of each stream in -record to keep in memory for clips of the API, at most 32 MiB; 0: what late players get, since the last key frame")
	fs.Func("record-keep", `how much to keep: an age as "720h" or "30d", a size as "50GB", a count of each stream's recordings as "100", or several with commas; empty: everything`, func(v string) (err error) {
		o.keep, err = parseKeep(v)
		return err
	})
	fs.StringVar(&o.s3, "s3", "", "store recordings in a bucket instead of -record-dir: https://KEY:SECRET@HOST/BUCKET/PREFIX?region=…")
}

// parseKeep reads the value of -record-keep.
func parseKeep(v string) (k record.Retention, err error) {
	for word := range strings.SplitSeq(v, ",") {
		word = strings.TrimSpace(word)
		upper := strings.ToUpper(word)
		if word == "" {
			continue
		}
		if n, err := strconv.Atoi(word); err == nil && n > 0 {
			k.Count = n
			continue
		}
		if days, ok := strings.CutSuffix(word, "d"); ok {
			if n, err := strconv.Atoi(days); err == nil && n > 0 && n < 1e5 {
				k.Age = time.Duration(n) * 24 * time.Hour
				continue
			}
		}
		if d, err := time.ParseDuration(word); err == nil && d > 0 {
			k.Age = d
			continue
		}
		if size, ok := parseSize(upper); ok {
			k.Bytes = size
			continue
		}
		return k, fmt.Errorf("%q is neither an age, nor a size, nor a count", word)
	}
	return k, nil
}

func parseSize(s string) (int64, bool) {
	for _, unit := range []struct {
		name string
		size int64
	}{{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}} {
		if number, ok := strings.CutSuffix(s, unit.name); ok {
			n, err := strconv.ParseInt(number, 10, 64)
			return n * unit.size, err == nil && n > 0 && n < 1e6
		}
	}
	return 0, false
}

// A recording is what records, and serves that under /recordings/.
type recording struct {
	http.Handler
	recorder *record.Recorder
	files    *record.Handler // below /recordings/
	cancel   context.CancelFunc
	done     chan struct{} // closed when all is complete
}

// start records until ctx ends, if that is asked for; else it returns nil.
func (o *recordOptions) start(ctx context.Context, hub *stream.Hub, trail *audit.Trail, log *slog.Logger) (*recording, error) {
	if len(o.patterns) == 0 {
		return nil, nil
	}
	match, err := record.Pattern(o.patterns...)
	if err != nil {
		return nil, err
	}
	storage, closeStorage, err := o.storage(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := record.Repair(ctx, storage, log); err != nil {
		log.Warn("not every recording could be repaired", "err", err)
	}
	r := &record.Recorder{
		Hub: hub, Storage: storage, Log: log, Match: match,
		Format: o.format, Segment: o.segment, Keep: o.keep, Rewind: o.rewind, Rewinds: match,
	}
	r.Audit = func(_ context.Context, d record.Deletion) error {
		trail.Record(deletion(d))
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	rec := &recording{recorder: r, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(rec.done)
		defer closeStorage()
		if err := r.Run(ctx); !errors.Is(err, context.Canceled) {
			log.Error("recording", "err", err)
		}
	}()
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	rec.files = &record.Handler{Library: &record.Library{Storage: storage, Log: log, Audit: r.Audit}, Key: key, Auth: auth.Func(watchRecordings)}
	rec.Handler = http.StripPrefix("/recordings", rec.files)
	return rec, nil
}

// deletion is how the audit trail has that a recording is deleted.
func deletion(d record.Deletion) audit.Event {
	return audit.Event{Time: d.Time, Kind: audit.Call, User: d.By, Action: "delete", Protocol: "record",
		Target: d.Info.Name, Result: audit.Allowed, Reason: d.Reason}
}

// storage returns where recordings go.
func (o *recordOptions) storage(ctx context.Context) (stream.Storage, func(), error) {
	if o.s3 != "" {
		s, err := s3store.Parse(o.s3)
		if err != nil {
			return nil, nil, err
		}
		// What is left of files of a day ago nobody completes any more.
		_, err = s.Clean(ctx, 24*time.Hour)
		return s, func() {}, err
	}
	dir := &record.Dir{Path: o.dir}
	return dir, func() { dir.Close() }, nil
}

// watchRecordings lets everybody play a recording whose name they know; the list,
// and deletion, are for this machine.
func watchRecordings(_ context.Context, r *auth.Request) (*auth.Grant, error) {
	if r.Action == auth.Play || r.Action == auth.Admin && r.Remote.Addr().IsLoopback() && r.Origin == "" {
		return nil, nil
	}
	return nil, auth.ErrDenied
}

// stop ends recording, and waits a while until everything is complete.
func (r *recording) stop() {
	if r == nil {
		return
	}
	r.cancel()
	select {
	case <-r.done:
	case <-time.After(30 * time.Second):
	}
}

// routes puts recordings beside what next serves.
func (r *recording) routes(next http.Handler) http.Handler {
	if r == nil {
		return next
	}
	mux := http.NewServeMux()
	mux.Handle("/", next)
	mux.Handle("/recordings/", r)
	return mux
}
