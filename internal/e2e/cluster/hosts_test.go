package cluster

// A host is a machine of its own, as far as its network goes.
type host struct {
	pid  string // of a process there
	addr string
	link string // to it, here
}

// enter returns what goes before a command that is to run there.
func (h *host) enter() []string {
	if h == nil {
		return nil
	}
	return []string{"nsenter", "--net=/proc/" + h.pid + "/ns/net", "--"}
}
