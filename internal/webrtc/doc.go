// Package webrtc is the server's side of WebRTC: offers and answers (RFC 8829),
// ICE, lite or full (RFC 8445), DTLS-SRTP (RFC 5764) and RTP with its feedback
// (RFC 8834), for any number of sessions on one UDP port.
//
// A Transport owns the socket. Accept answers an offer and begins a Session,
// which either receives (WHIP) or sends (WHEP). A session exists from its answer
// on, but nothing is kept for an address, and no DTLS is spoken with it, before
// it has proved with ICE that it knows the session's password.
//
// Packets are handled in the goroutine that reads the socket. What a Sender
// sends is sealed and sent in the goroutine that has made the frame.
package webrtc
