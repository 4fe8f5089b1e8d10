package srt

import (
	"fmt"
	"net"
)

// Errors of connections. Those of closed ones are net.ErrClosed.
var (
	ErrClosed       = fmt.Errorf("srt: connection closed: %w", net.ErrClosed)
	ErrPeerClosed   = fmt.Errorf("srt: the peer has closed the connection: %w", net.ErrClosed)
	ErrPeerIdle     = fmt.Errorf("srt: the peer says nothing any more: %w", net.ErrClosed)
	ErrServerClosed = fmt.Errorf("srt: endpoint closed: %w", net.ErrClosed)
)
