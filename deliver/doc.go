// Package deliver sends live streams to players: FLV and fragmented MP4 over
// HTTP and WebSocket, and RTMP on connections that package ingest hands over.
//
// Server is an http.Handler; the paths are the stream names with the
// container's extension:
//
//	/live/demo.flv  FLV over HTTP, or over WebSocket when the request asks for an upgrade
//	/live/demo.mp4  fragmented MP4 likewise, for Media Source Extensions
//
// Each stream is muxed once per container whatever the number of players:
// players are cursors into shared bytes (see internal/fanout). HTTP/1.1
// connections are hijacked, so that a player costs a few kilobytes, and belong
// to the Server from then on: http.Server.Shutdown does not know them,
// Server.Shutdown does.
package deliver
