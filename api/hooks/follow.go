package hooks

import (
	"cmp"
	"context"
	"iter"
	"net/http"
	"time"

	"github.com/runnel-media/runnel/api/internal/srsname"
	"github.com/runnel-media/runnel/stream"
)

// Run tells the services what happens in the hub, until ctx ends, whose error it
// returns, or the hub is closed (stream.ErrClosed): close it, so that the end of
// the last sessions is told too. What waits is still sent, for no longer than
// Drain. It can be called once.
func (c *Callbacks) Run(ctx context.Context) error {
	events, err := c.listen(ctx)
	if err != nil {
		return err
	}
	return c.run(ctx, events)
}

// listen begins to listen, and notes what there is.
func (c *Callbacks) listen(ctx context.Context) (iter.Seq[stream.Event], error) {
	for _, u := range c.VHosts {
		if err := u.Check(); err != nil {
			return nil, err
		}
	}
	if err := c.URLs.Check(); err != nil {
		return nil, err
	}
	c.once.Do(c.prepare)
	events := c.Hub.Events(ctx)
	c.compare(false)
	return events, nil
}

func (c *Callbacks) run(ctx context.Context, events iter.Seq[stream.Event]) error {
	defer c.cancel()
	running, stop := context.WithCancel(ctx)
	defer stop()
	go c.sweep(running)
	for e := range events {
		c.follow(e)
	}
	stop()
	empty := c.queue.close()
	select {
	case <-empty:
	case <-time.After(cmp.Or(c.Drain, 5*time.Second)):
		c.cancel()
		<-empty // soon
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return stream.ErrClosed
}

func (c *Callbacks) follow(e stream.Event) {
	switch e := e.(type) {
	case stream.SessionOpened:
		c.opened(e.Session)
	case stream.SessionClosed:
		c.closed(e.Session, e.Stats)
	case stream.StreamStarted:
		c.published(e.Stream, e.Session)
	case stream.PublisherChanged:
		c.published(e.Stream, e.Session)
	case stream.StreamEnded:
		c.mu.Lock()
		if p := c.publishers[e.Stream]; p != nil {
			p.ended = time.Now()
		}
		c.mu.Unlock()
	case stream.RecordingEnded:
		if e.Size > 0 {
			info := c.publisher(e.Stream)
			c.tell(OnDVR, &info, c.dvrMessage(&info, e))
		}
	case stream.SegmentStored:
		info := c.publisher(e.Stream)
		c.tell(OnHLS, &info, c.hlsMessage(&info, e))
		for _, template := range c.urls(info.VHost)[OnHLSNotify] {
			c.put(request{
				event: OnHLSNotify, stream: e.Stream, method: http.MethodGet, url: c.notifyURL(template, &info, e.Name), id: newID(),
			})
		}
	case stream.EventsLost:
		c.compare(true)
	}
}

// opened notes a session. One that nobody asked about is told of: it was opened by
// somebody who asks no Authorizer, or it is a viewer who has come back.
func (c *Callbacks) opened(info stream.SessionInfo) {
	c.mu.Lock()
	_, asked := c.pending[info.ID]
	_, known := c.open[info.ID]
	delete(c.pending, info.ID)
	c.open[info.ID] = info
	c.mu.Unlock()
	if asked || known {
		return
	}
	e := OnPlay
	if info.Role == stream.RolePublish {
		e = OnPublish
	}
	c.tell(OnConnect, &info, c.message(OnConnect, &info))
	c.tell(e, &info, c.message(e, &info))
}

func (c *Callbacks) closed(info stream.SessionInfo, st stream.SessionStats) {
	c.mu.Lock()
	_, known := c.open[info.ID]
	delete(c.open, info.ID)
	c.mu.Unlock()
	if known { // else that has been told
		c.over(info, st)
	}
}

// over tells that a peer has gone.
func (c *Callbacks) over(info stream.SessionInfo, st stream.SessionStats) {
	e := OnStop
	if info.Role == stream.RolePublish {
		e = OnUnpublish
	}
	c.tell(e, &info, c.message(e, &info))
	c.tell(OnClose, &info, c.closeMessage(&info, st))
}

func (c *Callbacks) published(name, session string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, ok := c.open[session]
	if !ok {
		info = infoOfStream(name)
	}
	c.publishers[name] = &publisher{info: info}
}

// publisher returns who publishes a stream, or did.
func (c *Callbacks) publisher(name string) stream.SessionInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.publishers[name]; p != nil {
		return p.info
	}
	return infoOfStream(name)
}

func infoOfStream(name string) stream.SessionInfo {
	s := srsname.Cut(name, nil)
	return stream.SessionInfo{Stream: name, Role: stream.RolePublish, App: s.App, Name: s.Name}
}

// compare makes the table of sessions what the hub says; tell says whether services
// are to know what has changed.
func (c *Callbacks) compare(tell bool) {
	now := make(map[string]*stream.Session)
	for s := range c.Hub.Sessions() {
		now[s.ID()] = s
	}
	var gone []stream.SessionInfo
	c.mu.Lock()
	for id, info := range c.open {
		if now[id] == nil {
			delete(c.open, id)
			gone = append(gone, info)
		} else {
			delete(now, id)
		}
	}
	c.mu.Unlock()
	for _, info := range gone {
		c.over(info, stream.SessionStats{})
	}
	for _, s := range now {
		if tell {
			c.opened(s.Info())
			continue
		}
		c.mu.Lock()
		c.open[s.ID()] = s.Info()
		c.mu.Unlock()
	}
	for s := range c.Hub.Streams() {
		c.mu.Lock()
		known := c.publishers[s.Name()] != nil
		c.mu.Unlock()
		if !known {
			c.published(s.Name(), publisherOf(c.Hub, s.Name()))
		}
	}
}

// publisherOf returns the ID of the session that publishes a stream, or "".
func publisherOf(hub *stream.Hub, name string) string {
	for s := range hub.Sessions() {
		if info := s.Info(); info.Stream == name && info.Role == stream.RolePublish {
			return info.ID
		}
	}
	return ""
}

// sweep tells of the end of what was allowed and never began, and forgets the
// publishers of streams that ended long ago.
func (c *Callbacks) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for _, info := range c.expired(now) {
				c.over(info, stream.SessionStats{})
			}
		}
	}
}

func (c *Callbacks) expired(now time.Time) (gone []stream.SessionInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, p := range c.pending {
		if now.Sub(p.at) > pendingTime {
			delete(c.pending, id)
			gone = append(gone, p.info)
		}
	}
	for name, p := range c.publishers {
		if !p.ended.IsZero() && now.Sub(p.ended) > publisherTime {
			delete(c.publishers, name)
		}
	}
	return gone
}
