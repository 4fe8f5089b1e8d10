package main

import (
	"context"
	"crypto/rand"
	"flag"
	"log/slog"
	"path"
	"strings"

	"github.com/runnel-media/runnel/api/hooks"
	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/config"
	"github.com/runnel-media/runnel/stream"
)

// hookOptions are the flags that begin with -hook.
type hookOptions struct {
	list config.List
	key  string
	urls hooks.URLs

	calls *hooks.Callbacks // nil: there are none
}

func (o *hookOptions) flags(fs *flag.FlagSet) {
	fs.Var(&o.list, "hook-url", "web service to call as SRS does: EVENT=URL, such as on_publish=http://127.0.0.1:8085/streams, or a URL for all events; may be repeated. on_connect, on_publish and on_play decide: what such a service does not allow is refused")
	fs.StringVar(&o.key, "hook-key", "", "signs calls of -hook-url, see docs/api.md; empty: they are not signed")
}

// parse reads the URLs.
func (o *hookOptions) parse() (err error) {
	o.urls, err = hooks.Parse(o.list...)
	return err
}

// decidesPublish reports whether a service is asked who may publish, so that
// publishers need not be on this machine.
func (o *hookOptions) decidesPublish() bool {
	return len(o.urls[hooks.OnPublish])+len(o.urls[hooks.OnConnect]) > 0
}

// asker returns what says where streams are to be forwarded, nil for nothing.
func (o *hookOptions) asker() asker {
	if o.calls == nil || len(o.urls[hooks.OnForwardBackend]) == 0 {
		return nil
	}
	return o.calls
}

// start puts the services behind an authorizer. stop closes the hub, so that they
// hear of its end, and waits until they have.
func (o *hookOptions) start(at *options, hub *stream.Hub, inner auth.Authorizer, log *slog.Logger) (outer auth.Authorizer, stop func()) {
	if len(o.urls) == 0 {
		return inner, func() {}
	}
	o.calls = &hooks.Callbacks{
		Hub: hub, Auth: inner, Log: log, URLs: o.urls, Key: []byte(o.key), ServerID: "mediaserver",
		ServiceID: strings.ToLower(rand.Text()[:8]),
		File: func(_, name string) string {
			if strings.HasSuffix(name, ".m4s") || strings.HasSuffix(name, ".m3u8") {
				return path.Join(at.hlsDir, name)
			}
			if at.record.s3 != "" {
				return name
			}
			return path.Join(at.record.dir, name)
		},
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = o.calls.Run(context.Background()) // ends with the hub
	}()
	return o.calls, func() {
		_ = hub.Close()
		<-done
	}
}
