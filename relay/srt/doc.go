// Package srt is a transport for relays: it pulls streams from SRT listeners and
// pushes them there, as MPEG transport streams.
//
//	r := &relay.Relay{Hub: hub, Transports: map[string]relay.Transport{"srt": &srt.Transport{}}}
//	err := r.Pull(ctx, "live/cam", "srt://encoder.example:9000?streamid=cam&passphrase=0123456789")
//
// # URLs
//
// Options of a connection are in the query, as ffmpeg has them:
//
//	streamid     sent as it is
//	passphrase   10 to 79 bytes
//	pbkeylen     16, 24 or 32
//	latency      microseconds
//	mode         "caller", which is all that there is
//
// A URL without a streamid has the stream in its path, srt://host:9000/live/cam,
// and what else is in its query goes along: the stream id is then
// "#!::r=live/cam,m=request" (or m=publish) with a token as s and other
// parameters as they are, which Runnel's and SRS's SRT ports understand.
package srt
