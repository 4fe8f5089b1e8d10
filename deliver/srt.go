package deliver

import (
	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/fanout"
)

// playContainer returns what a player is sent that came by ServePlay: over SRT
// a transport stream, RTMP else.
func playContainer(r *auth.Request) container {
	if r.Protocol == "srt" {
		return containerTS
	}
	return containerRTMP
}

// A pushConn is a playConn that takes the log's bytes as they are, and says when
// its peer has left.
type pushConn interface {
	playConn
	fanout.Pusher
	// OnEnd has f called, in a goroutine of its own, when the peer has left.
	OnEnd(f func(error))
}

// push plays without a goroutine: it returns at once.
func (p *playing) push(c pushConn, ended func(whole bool, err error)) {
	p.follow(c, ended)
	c.OnEnd(func(error) { p.player().End(nil) })
}
