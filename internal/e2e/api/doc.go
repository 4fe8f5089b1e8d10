// Package api holds the tests that drive the control plane of examples/mediaserver
// and examples/turnserver as their operators do: over HTTP, with real publishers
// and players, and with Prometheus' own tool.
package api
