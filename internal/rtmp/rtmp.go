// Package rtmp is the RTMP engine: the server side that ingest uses (one
// listener for publishers and players), the muxing of messages for players
// that deliver uses, and a client for relays and tests.
//
// It follows Adobe's RTMP specification 1.0, what Flash-era encoders, ffmpeg,
// OBS and SRS made of it, and Enhanced RTMP v1 and v2. Media bodies are not
// looked into here: internal/flv does that.
//
// A [Server] sorts connections: it hands publishers' media to the
// [github.com/runnel-media/runnel/stream.Publisher] that its [Handler]
// returns, and players to Handler.Play as a
// [github.com/runnel-media/runnel/stream.PlayConn] whose socket then belongs
// to whoever plays to it.
package rtmp

import (
	"errors"
	"fmt"
	"net"
)

// Types of message (RTMP 1.0, sections 5.4 and 7.1).
const (
	typeSetChunkSize     = 1
	typeAbort            = 2
	typeAck              = 3
	typeUserControl      = 4
	typeWindowAckSize    = 5
	typeSetPeerBandwidth = 6
	typeAudio            = 8
	typeVideo            = 9
	typeDataAMF3         = 15
	typeCommandAMF3      = 17
	typeDataAMF0         = 18
	typeCommandAMF0      = 20
	typeAggregate        = 22
)

// Events of user control messages (RTMP 1.0, section 7.1.7).
const (
	eventStreamBegin  = 0
	eventStreamEOF    = 1
	eventPingRequest  = 6
	eventPingResponse = 7
)

// Chunk stream ids that we send on. Peers accept any.
const (
	csidControl = 2
	csidCommand = 3
	csidAudio   = 4
	csidData    = 5
	csidVideo   = 6
)

const (
	defaultChunkSize = 128       // of both directions until told otherwise
	maxMessageSize   = 1<<24 - 1 // what the 24-bit length can say
	maxCommandSize   = 64 << 10  // of a command, and of any message before media is allowed
	windowAckSize    = 2500000   // bytes, in both directions
	streamID         = 1         // the one message stream of a connection
)

// PlayChunkSize is the chunk size of everything that goes to players, told to
// every peer when it connects, so that the bytes of a message are the same
// for all of them.
const PlayChunkSize = 60000

// ErrServerClosed is what Serve returns after Shutdown or Close. It is a
// net.ErrClosed.
var ErrServerClosed = fmt.Errorf("rtmp: server closed: %w", net.ErrClosed)

// What a peer does wrong. The texts are for logs: no peer sees them.
var (
	errVersion     = errors.New("rtmp: handshake of an unknown version")
	errChunk       = errors.New("rtmp: chunk continues a stream that never began")
	errChunkSize   = errors.New("rtmp: chunk size 0")
	errChunkStream = errors.New("rtmp: too many chunk streams")
	errTooLong     = errors.New("rtmp: message too long")
	errTooMuch     = errors.New("rtmp: too much of unfinished messages")
	errControl     = errors.New("rtmp: protocol control message too short")
	errCommand     = errors.New("rtmp: malformed command")
	errOrder       = errors.New("rtmp: command out of order")
)
