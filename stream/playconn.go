package stream

import "net"

// A PlayConn is a connection whose peer has asked to play, as the engine of its
// protocol hands it to the package that delivers. It is the border between the
// two: the engine knows what the peer says, the other what it is sent.
//
// Write sends bytes of the muxed stream as they are. If the transport is a
// plain socket the type also implements syscall.Conn, which is how a fast write
// path finds it. Read is not used.
type PlayConn interface {
	net.Conn

	// Accept is called once, when the play has been granted, and returns the
	// bytes that go before the media: an HTTP response header, RTMP's
	// onStatus. Until then the engine can still refuse in its own words.
	Accept() []byte

	// ReadControl blocks for what the peer says while it plays. An error
	// ends the play; io.EOF says that the peer wanted it. Only one goroutine
	// calls it.
	ReadControl() (Control, error)
}

// A QuietConn is a PlayConn whose ReadControl returns after each message, with a
// zero Control if that concerned nobody. It need not be called before the socket
// has something to be read, so that no goroutine waits in it.
type QuietConn interface {
	PlayConn

	// Pending reports whether more has been read from the socket than
	// ReadControl has returned. It is called by who calls ReadControl.
	Pending() bool
}

// Control is what a playing peer's message asks for.
type Control struct {
	Reply         []byte // wire bytes to be sent between two messages; owned by the receiver
	Pause, Resume bool
}
