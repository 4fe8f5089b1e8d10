//go:build !linux

package cluster

import "testing"

func enter() {}

func newHosts(t *testing.T, _ int) []*host {
	t.Skip("there are no network namespaces")
	return nil
}

func (h *host) cut(*testing.T, bool) {}

func (h *host) lossy(*testing.T, int) {}
