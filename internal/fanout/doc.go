// Package fanout sends one stream of bytes to many connections. A muxer appends
// each frame once to a Log; a Player is a cursor into it, and one write covers
// every frame that is due.
//
// Plain sockets are written to by a few loops (shards) that never block: no
// goroutine a player, no wake-up, no copy in this process. Everything else (TLS,
// HTTP/2, in-memory connections) gets a goroutine that follows the same cursor.
//
// Nothing here pins memory: a player holds an offset, and bytes that have left
// the log's window are gone for it. One that falls too far behind skips to the
// newest point where a decoder can start, and is dropped when it takes nothing
// for too long.
package fanout
