package relay

import (
	"cmp"
	"hash/fnv"
	"slices"
	"sync"
	"time"
)

// How long a server that failed is asked only after the others.
const (
	minSick = time.Second
	maxSick = 30 * time.Second
)

// health knows which servers failed lately. A server that does not have a
// stream is well.
type health struct {
	mu   sync.Mutex
	sick map[string]*sickness // by URL template; only those of the configuration come here
}

type sickness struct {
	failures int
	until    time.Time
}

func (h *health) failed(server string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sick == nil {
		h.sick = make(map[string]*sickness)
	}
	s := h.sick[server]
	if s == nil {
		s = &sickness{}
		h.sick[server] = s
	}
	s.failures = min(s.failures+1, 10)
	s.until = time.Now().Add(min(minSick<<(s.failures-1), maxSick))
}

func (h *health) answered(server string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sick, server)
}

// order returns the servers in the order in which to ask them for a stream:
// the well ones first, and among those by rendezvous hashing, so that all
// edges ask the same one and the streams spread over them.
func (h *health) order(servers []string, stream string) []string {
	type ranked struct {
		server string
		sick   bool
		score  uint64
	}
	now := time.Now()
	list := make([]ranked, len(servers))
	h.mu.Lock()
	for i, server := range servers {
		s := h.sick[server]
		list[i] = ranked{server, s != nil && now.Before(s.until), score(server, stream)}
	}
	h.mu.Unlock()
	slices.SortStableFunc(list, func(a, b ranked) int {
		if a.sick != b.sick {
			if a.sick {
				return 1
			}
			return -1
		}
		return cmp.Compare(b.score, a.score)
	})
	out := make([]string, len(list))
	for i := range list {
		out[i] = list[i].server
	}
	return out
}

// score is the weight of a pair. The last steps spread what FNV leaves close
// together.
func score(server, stream string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(server))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(stream))
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return x
}

// A target is a server's URL of a stream.
type target struct {
	url    string
	server string // as health knows it; "": it does not
}

func only(url string) func() []target {
	return func() []target { return []target{{url: url}} }
}

// originsOf returns the URLs of a stream at the origins, in the order in which
// to try them.
func (r *Relay) originsOf(name string) []target {
	var list []target
	for _, server := range r.origins.order(r.Origins, name) {
		list = append(list, target{expand(server, name), server})
	}
	return list
}
