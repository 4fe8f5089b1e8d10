package relay

import (
	"cmp"
	"math"
	"net/url"
	"strconv"
	"strings"

	"github.com/runnel-media/runnel/auth"
)

// movedKey is the query parameter that counts how often a client was sent on.
const movedKey = "runnel-moved"

const (
	maxMoves = 3   // after which a client is served where it is
	busy     = 0.7 // load from which on a stream's own server leaves players to others
	// slots bound between how many servers the players of one stream are shared
	// at a time. As these fill others take their place.
	slots = 16
)

// place says where a client goes that may do what it asks for: nil if that is
// here, an *auth.Redirect or ErrDrained if not.
func (r *Relay) place(q *auth.Request) error {
	if r.Registry == nil || q.Protocol == "relay" || r.Hub.Session(q.Session) != nil {
		return nil // servers know where to go; and who is here was placed before
	}
	load, draining := r.load()
	if q.Action == auth.Publish && !draining && r.publishedHere(q.Stream) {
		return nil // the hub decides
	}
	leave := draining || load >= 1 || r.Edge && q.Action == auth.Publish
	moved := movesOf(q.RawQuery)
	if !leave && (!r.Redirect || moved > 0) {
		return nil
	}
	if moved < maxMoves {
		if to, base := r.choose(q); base != "" && to.ID != r.id {
			return &auth.Redirect{Location: location(base, q, moved+1)}
		}
	}
	if draining {
		return ErrDrained
	}
	return nil
}

// load returns how busy this server is.
func (r *Relay) load() (load float64, draining bool) {
	if r.Load != nil {
		load, draining = r.Load()
	}
	return load, draining || r.draining.Load()
}

// choose returns the server for a client, and its URL there: the server that has
// the stream, unless that is busy or leaves players to edges; else, by weighted
// rendezvous hashing, one that has room. All servers choose alike as far as they
// know the same. The URL is empty if there is no such server.
func (r *Relay) choose(q *auth.Request) (best Server, base string) {
	d := &r.cluster
	key := q.Stream
	if q.Action == auth.Play {
		key += "\x00" + strconv.FormatUint(score(q.Remote.String(), q.Stream)%slots, 10)
	}
	load, draining := r.load()
	d.mu.RLock()
	defer d.mu.RUnlock()
	owner := d.owners[q.Stream]
	top, edge := math.Inf(-1), false
	for id, s := range d.servers {
		if id == r.id {
			s.Load, s.Draining = load, draining // as it is, not as it was announced
		}
		if s.Draining || q.Action == auth.Publish && s.Edge || edge && !s.Edge {
			continue
		}
		at := s.public(q)
		if at == "" && id != r.id {
			continue
		}
		mine := id == owner
		if q.Action == auth.Publish && mine {
			return s, cmp.Or(at, s.URL) // nobody else may
		}
		if s.Load >= 1 {
			continue
		}
		if s.Edge && !edge && q.Action == auth.Play {
			edge, top = true, math.Inf(-1) // where there are edges, players are theirs
		}
		weight := rank(id, key, s.Load)
		if mine && s.Load < busy {
			weight = math.Inf(1)
		}
		if weight > top {
			best, base, top = s, cmp.Or(at, s.URL), weight
		}
	}
	return best, base
}

// rank is a server's weight for a key: the largest is chosen, so that each gets
// a share in proportion to its room, and when one comes or goes, or fills, the
// keys of the others stay.
func rank(server, key string, load float64) float64 {
	room := min(max(1-load, 0.01), 1)
	return -room / math.Log((float64(score(server, key)>>11)+0.5)/(1<<53))
}

// public returns where a client of q's protocol reaches the server, "" if it
// can't be sent there. Who came by TLS is not sent to where there is none.
func (s *Server) public(q *auth.Request) string {
	switch p := q.Protocol; {
	case p == "rtmp", p == "rtmps":
		return s.Public[p]
	case strings.HasPrefix(p, "http-"), p == "hls", p == "dash", p == "whip", p == "whep":
		if q.TLS == nil && s.Public["http"] != "" {
			return s.Public["http"]
		}
		return s.Public["https"]
	}
	return "" // the others' clients follow no redirect
}

// checked returns those of a server's public URLs that clients may be sent to:
// another server has written them. They end with the host.
func checked(public map[string]string) map[string]string {
	var good map[string]string
	for _, scheme := range []string{"rtmp", "rtmps", "http", "https"} {
		to := strings.TrimSuffix(public[scheme], "/")
		if u, err := url.Parse(to); err == nil && u.Host != "" && scheme+"://"+u.Host == to {
			if good == nil {
				good = make(map[string]string)
			}
			good[scheme] = to
		}
	}
	return good
}

// location returns where the client of q is sent. HTTP's keep their path, which
// is not known here, and the query.
func location(base string, q *auth.Request, moved int) string {
	marker := movedKey + "=" + strconv.Itoa(moved)
	if q.Protocol != "rtmp" && q.Protocol != "rtmps" {
		return base + "?" + marker
	}
	query := without(q.RawQuery, movedKey)
	if q.VHost != "" && !strings.Contains("&"+query, "&vhost=") {
		query = strings.TrimPrefix(query+"&vhost="+url.QueryEscape(q.VHost), "&")
	}
	to := base + "/" + q.App + "/" + q.Name
	if query != "" {
		to += "?" + query
	}
	return addQuery(to, marker)
}

// movesOf returns how often the client with that query was sent on.
func movesOf(query string) int {
	if !strings.Contains(query, movedKey) {
		return 0
	}
	values, _ := url.ParseQuery(query) // what of it is well-formed
	n, err := strconv.Atoi(values.Get(movedKey))
	if err != nil || n < 0 {
		return maxMoves // who makes things up stays where it is
	}
	return n
}

// without returns a query without a parameter, the others as they are.
func without(query, key string) string {
	if !strings.Contains(query, key) {
		return query
	}
	var kept []string
	for part := range strings.SplitSeq(query, "&") {
		if name, _, _ := strings.Cut(part, "="); name != key {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "&")
}
