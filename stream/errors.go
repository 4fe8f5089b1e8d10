package stream

import (
	"errors"
	"net"

	"github.com/runnel-media/runnel/internal/name"
)

// Errors that callers branch on.
var (
	ErrClosed      = net.ErrClosed                                        // the object was closed, by this program
	ErrBusy        = errors.New("stream: stream already has a publisher") // and PublishOptions.Replace was not set
	ErrReplaced    = errors.New("stream: another publisher took over")
	ErrKicked      = errors.New("stream: session ended by an operator")
	ErrNotFound    = errors.New("stream: no such stream")
	ErrUnsupported = errors.New("stream: codec not supported by this output")
	ErrSlow        = errors.New("stream: reader too slow")
	ErrName        = name.ErrName // wrapped by every refusal of a stream name
)
