// Package hls is a transport for relays: it pulls streams from HTTP Live Streaming
// servers (RFC 8216), live or stored, in MPEG-TS or fragmented MP4, also with sound
// apart and with AES-128.
//
//	r := &relay.Relay{Hub: hub, Transports: map[string]relay.Transport{"hlss": &hls.Transport{}}}
//	err := r.Pull(ctx, "live/cam", "hlss://cdn.example/live/cam/index.m3u8")
//
// The schemes are hls, for HTTP, and hlss, for HTTPS; register the Transport for
// both. A live stream begins three segments before its end, and comes out at the
// speed of its timestamps, not in bursts. Where segments have a date, their frames
// have it for their capture time. A stored one is played from its beginning, the
// last segments of a live one that has ended are not.
//
// A playlist is a stranger's text. What it refers to is fetched over HTTP and HTTPS
// alone, from public addresses, those that are allowed, and the server that the URL
// names. All sizes are bounded.
package hls
