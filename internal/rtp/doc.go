// Package rtp cuts the frames of a stream into RTP payloads and puts payloads
// together again, puts packets that arrive over a network into order, and asks
// for those that did not (RFC 3550, RFC 4585).
//
// Headers are github.com/pion/rtp's. Frames are in Runnel's form, as
// stream.Codec states it: NAL units behind lengths of four bytes, temporal units
// of OBUs with sizes.
//
// Everything here is plain state without goroutines, sockets and clocks: the
// caller says what time it is. What peers send is bounded; nothing panics.
package rtp
