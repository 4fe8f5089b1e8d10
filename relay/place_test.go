package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
)

// clusterOf makes a relay that knows servers and whose streams are whose.
func clusterOf(owners map[string]string, servers ...Server) *Relay {
	r := &Relay{Hub: &stream.Hub{}, ID: "self", Registry: &MemoryRegistry{}, Redirect: true}
	r.prepare()
	r.cluster.owners, r.cluster.servers = owners, make(map[string]Server)
	for _, s := range servers {
		if s.Public == nil {
			s.Public = map[string]string{"http": "http://" + s.ID, "https": "https://" + s.ID, "rtmp": "rtmp://" + s.ID + ":1935"}
		}
		apply(r.cluster.servers, nil, Change{Server: &s})
	}
	return r
}

func from(port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(port))
}

// sent returns where an error of place sends a client, "here", or "refused".
func sent(t *testing.T, err error) string {
	var to *auth.Redirect
	switch {
	case err == nil:
		return "here"
	case errors.As(err, &to):
		return to.Location
	}
	require.ErrorIs(t, err, stream.ErrClosed)
	require.ErrorIs(t, err, ErrDrained)
	return "refused"
}

func TestPlace(t *testing.T) {
	play := func(change func(q *auth.Request)) *auth.Request {
		q := &auth.Request{Action: auth.Play, Protocol: "http-flv", Stream: "live/cam", App: "live", Name: "cam", Remote: from(1)}
		if change != nil {
			change(q)
		}
		return q
	}
	publish := func(q *auth.Request) { q.Action, q.Protocol = auth.Publish, "rtmp" }
	self, a, b := Server{ID: "self"}, Server{ID: "a"}, Server{ID: "b", Load: 0.5}
	owned := map[string]string{"live/cam": "a"}
	drains := func() (float64, bool) { return 0, true }
	full := func() (float64, bool) { return 1, false }
	for _, tt := range []struct {
		name    string
		relay   *Relay
		load    func() (float64, bool)
		request *auth.Request
		want    string
	}{
		{"to who has it", clusterOf(owned, self, a, b), nil, play(nil), "http://a?runnel-moved=1"},
		{"over TLS", clusterOf(owned, self, a, b), nil, play(func(q *auth.Request) { q.TLS = &tls.ConnectionState{} }), "https://a?runnel-moved=1"},
		{"by an offer", clusterOf(owned, self, a, b), nil, play(func(q *auth.Request) { q.Protocol = "whep" }), "http://a?runnel-moved=1"},
		{"over RTMP", clusterOf(owned, self, a, b), nil, play(func(q *auth.Request) { q.Protocol, q.RawQuery = "rtmp", "token=t&x" }), "rtmp://a:1935/live/cam?token=t&x&runnel-moved=1"},
		{"with a virtual host", clusterOf(map[string]string{"v/live/cam": "a"}, self, a, b), nil, play(func(q *auth.Request) {
			q.Protocol, q.Stream, q.VHost = "rtmp", "v/live/cam", "v"
		}), "rtmp://a:1935/live/cam?vhost=v&runnel-moved=1"},
		{"that redirects don't move", clusterOf(owned, self, a, b), nil, play(func(q *auth.Request) { q.Protocol = "srt" }), "here"},
		{"that has no RTMPS", clusterOf(owned, self, a, b), nil, play(func(q *auth.Request) { q.Protocol = "rtmps" }), "here"},
		{"it is ours", clusterOf(map[string]string{"live/cam": "self"}, self, a, b), nil, play(nil), "here"},
		{"ours but busy", clusterOf(map[string]string{"live/cam": "self"}, self, a), func() (float64, bool) { return 0.999, false }, play(nil), "http://a?runnel-moved=1"},
		{"a server's own fetch", clusterOf(owned, self, a, b), nil, play(func(q *auth.Request) { q.Protocol = "relay" }), "here"},
		{"moved before", clusterOf(owned, self, a, b), nil, play(func(q *auth.Request) { q.RawQuery = "runnel-moved=1" }), "here"},
		{"moved before, but full", clusterOf(owned, self, a, b), full, play(func(q *auth.Request) { q.RawQuery = "runnel-moved=1" }), "http://a?runnel-moved=2"},
		{"moved enough", clusterOf(owned, self, a, b), full, play(func(q *auth.Request) { q.RawQuery = "runnel-moved=3" }), "here"},
		{"moved nonsense", clusterOf(owned, self, a, b), full, play(func(q *auth.Request) { q.RawQuery = "runnel-moved=-1" }), "here"},
		{"full, alone", clusterOf(nil, self), full, play(nil), "here"},
		{"draining", clusterOf(owned, self, a, b), drains, play(func(q *auth.Request) { q.RawQuery = "runnel-moved=1" }), "http://a?runnel-moved=2"},
		{"draining, nowhere to go", clusterOf(nil, self), drains, play(nil), "refused"},
		{"draining, no redirect", clusterOf(owned, self, a), drains, play(func(q *auth.Request) { q.Protocol = "ws-flv" }), "refused"},
		{"its server drains", clusterOf(owned, self, Server{ID: "a", Draining: true}, b), drains, play(nil), "http://b?runnel-moved=1"},
		{"its server is full", clusterOf(owned, self, Server{ID: "a", Load: 1}, b), full, play(nil), "http://b?runnel-moved=1"},
		{"edges are for players", clusterOf(owned, self, a, Server{ID: "e", Edge: true, Load: 0.9}), nil, play(nil), "http://e?runnel-moved=1"},
		{"but not for publishers", clusterOf(nil, Server{ID: "a"}, Server{ID: "e", Edge: true}), nil, play(publish), "rtmp://a:1935/live/cam?runnel-moved=1"},
		{"publisher of a stream elsewhere", clusterOf(owned, self, Server{ID: "a", Load: 2}, b), nil, play(publish), "rtmp://a:1935/live/cam?runnel-moved=1"},
		{"publisher, its old server drains", clusterOf(owned, Server{ID: "a", Draining: true}, b), nil, play(publish), "rtmp://b:1935/live/cam?runnel-moved=1"},

		{"a URL with a path", clusterOf(owned, self, Server{ID: "a", Public: map[string]string{"http": "http://a/x"}}), nil, play(nil), "here"},
		{"a URL of another scheme", clusterOf(owned, self, Server{ID: "a", Public: map[string]string{"http": "javascript://a"}}), nil, play(nil), "here"},
		{"a URL with a user", clusterOf(owned, self, Server{ID: "a", Public: map[string]string{"http": "http://u@a"}}), nil, play(nil), "here"},
		{"a URL of two lines", clusterOf(owned, self, Server{ID: "a", Public: map[string]string{"http": "http://a\r\nX: y"}}), nil, play(nil), "here"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.relay.Load = tt.load
			require.Equal(t, tt.want, sent(t, tt.relay.place(tt.request)))
		})
	}

	// Without Redirect all are served here, unless that can't be.
	r := clusterOf(owned, self, a)
	r.Redirect = false
	require.Equal(t, "here", sent(t, r.place(play(nil))))
	r.Edge = true
	require.Equal(t, "here", sent(t, r.place(play(nil))))
	require.Equal(t, "rtmp://a:1935/live/cam?runnel-moved=1", sent(t, r.place(play(publish))))
	r.draining.Store(true)
	require.Equal(t, "http://a?runnel-moved=1", sent(t, r.place(play(nil))))

	// Who is here already is not placed again, whoever asks.
	s := r.Hub.OpenSession(stream.SessionInfo{Role: stream.RolePlay, Stream: "live/cam"}, nil)
	require.Equal(t, "here", sent(t, r.place(play(func(q *auth.Request) { q.Session = s.ID() }))))
	s.Close(nil)

	// Who may not learns nothing of where it would be.
	_, err := r.Guard(auth.Func(nil)).Authorize(t.Context(), play(nil))
	require.Equal(t, auth.ErrDenied, err)
	_, err = r.Guard(auth.AllowAll).Authorize(t.Context(), play(nil))
	require.Equal(t, "http://a?runnel-moved=1", sent(t, err))
}

// What a program of a client makes of a location is the stream that it asked
// for.
func TestCredentialsWithoutMoves(t *testing.T) {
	require.Equal(t, "token=t", credentials("runnel-moved=2&token=t&vhost=v", ""))
	require.Equal(t, "a=%2F&b", without("a=%2F&runnel-moved=2&b", movedKey))
	require.Empty(t, without("runnel-moved=2", movedKey))
}

// Streams spread over servers in proportion to their room, few move when one goes,
// and a stream's players stay together.
func TestSpread(t *testing.T) {
	const streams = 10_000
	var servers []Server
	for i := range 10 {
		servers = append(servers, Server{ID: fmt.Sprint("s", i), Load: float64(i) / 20})
	}
	choices := func(r *Relay) (chosen map[string]string, count map[string]int) {
		chosen, count = make(map[string]string), make(map[string]int)
		for i := range streams {
			q := &auth.Request{Action: auth.Publish, Protocol: "rtmp", Stream: fmt.Sprint("live/", i)}
			to, _ := r.choose(q)
			chosen[q.Stream] = to.ID
			count[to.ID]++
		}
		return chosen, count
	}
	all := clusterOf(nil, servers...)
	before, count := choices(all)
	var room float64
	for _, s := range servers {
		room += 1 - s.Load
	}
	for _, s := range servers {
		want := streams * (1 - s.Load) / room
		require.Less(t, math.Abs(float64(count[s.ID])-want), want/10, "%s has %d, not %.0f", s.ID, count[s.ID], want)
	}
	after, _ := choices(clusterOf(nil, servers[1:]...))
	for name, server := range before {
		if server != "s0" {
			require.Equal(t, server, after[name], "only what was at the one that went moves")
		}
	}

	// One stream's players: of many servers a few have them all.
	at := make(map[string]int)
	for i := range 2000 {
		to, _ := all.choose(&auth.Request{Action: auth.Play, Protocol: "http-flv", Stream: "live/big", Remote: from(i)})
		at[to.ID]++
	}
	require.LessOrEqual(t, len(at), len(servers))
	var hundred []Server
	for i := range 100 {
		hundred = append(hundred, Server{ID: fmt.Sprint("s", i)})
	}
	at = make(map[string]int)
	many := clusterOf(nil, hundred...)
	for i := range 2000 {
		to, _ := many.choose(&auth.Request{Action: auth.Play, Protocol: "http-flv", Stream: "live/big", Remote: from(i)})
		at[to.ID]++
	}
	require.LessOrEqual(t, len(at), slots)
	require.Greater(t, len(at), slots/2)
}

// FuzzPlace: what servers announce and clients ask sends nobody to where no server
// is.
func FuzzPlace(f *testing.F) {
	f.Add("http://a", "live", "cam", "token=t", "http-flv")
	f.Add("https://a:8443/", "live", "cam", "runnel-moved=1&x=%", "hls")
	f.Add("rtmp://a", "a/b", "c", "vhost=v", "rtmp")
	f.Add("http://a\nb", "", "?", "\n", "whip")
	f.Add("//evil", "@evil", "#", "&&&", "rtmps")
	f.Fuzz(func(t *testing.T, public, app, name, query, protocol string) {
		r := clusterOf(nil, Server{ID: "a", Public: map[string]string{"http": public, "https": public, "rtmp": public, "rtmps": public}})
		err := r.place(&auth.Request{Action: auth.Play, Protocol: protocol, Stream: app + "/" + name, App: app, Name: name, RawQuery: query})
		var to *auth.Redirect
		if errors.As(err, &to) {
			base := strings.TrimSuffix(public, "/")
			require.True(t, strings.HasPrefix(to.Location, base+"/") || strings.HasPrefix(to.Location, base+"?"), to.Location)
			require.NotContains(t, base, "\n")
		}
	})
}

func BenchmarkPlace(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var servers []Server
			for i := range n {
				servers = append(servers, Server{ID: fmt.Sprint("server-", i)})
			}
			r := clusterOf(nil, servers...)
			guard := r.Guard(auth.AllowAll)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				_, err := guard.Authorize(context.Background(), &auth.Request{Action: auth.Play, Protocol: "http-flv", Stream: "live/cam", Remote: from(i)})
				if err == nil {
					b.Fatal("not sent on")
				}
			}
		})
	}
}
