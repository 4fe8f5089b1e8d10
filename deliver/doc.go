// Package deliver sends live streams to players: FLV, MPEG-TS, fragmented MP4 and
// bare audio over HTTP and WebSocket, HLS and DASH, and RTMP on connections that
// package ingest hands over.
//
// Server is an http.Handler; the paths are the stream names with the
// container's extension:
//
//	/live/demo.flv  FLV over HTTP, or over WebSocket when the request asks for an upgrade
//	/live/demo.mp4  fragmented MP4 likewise, for Media Source Extensions
//	/live/demo.ts   MPEG transport stream likewise
//	/live/demo.aac  the AAC track alone, with ADTS headers; /live/demo.mp3 the MP3 track
//	/live/demo.m3u8 HLS, low-latency CMAF; with ?format=ts MPEG-TS for old players,
//	                with ?audio-only a choice of the sound alone for weak networks
//	/live/demo.mpd  DASH, of the same segments
//	/live/demo/_hls/… what the playlists and the manifest refer to
//
// Each stream is muxed once per container whatever the number of players:
// players are cursors into shared bytes (see internal/fanout). HTTP/1.1
// connections are hijacked, so that a player costs a few kilobytes, and belong
// to the Server from then on: http.Server.Shutdown does not know them,
// Server.Shutdown does.
//
// # HLS
//
// A stream is cut into segments once, for HLS and DASH and all viewers; see HLS
// for when. Segments have names that nobody guesses and that never change, so a
// cache may keep them for ever and needs to ask nobody. Whether somebody may
// play is asked with the .m3u8 and the .mpd. Who was granted without having
// shown a token, a name or a certificate, and without an end of the Grant, gets
// the same playlists as all others, which a CDN can keep too; such viewers are
// told apart by address and User-Agent. Anybody else gets playlists of his own
// behind a signed token in the path, which expires with the Grant. Either has a
// session while playlists are reloaded in time; when it is kicked or expires the
// next reload is refused with 403, as are the keys of encrypted segments. Media
// counts to the session of the address that fetched it.
package deliver
