// Package runnel is live media and NAT traversal as Go building blocks: what a
// media server and a TURN server do as daemons, as packages to import, compose,
// script with Go functions and unit-test in process.
//
// The packages, from the middle outwards:
//
//   - stream: a Hub of live streams in process, one Publisher and many
//     Subscribers each; stream/streamtest has sources and an in-memory network
//     for tests.
//   - auth: who may publish, play, relay and administer.
//   - ingest: accepts publishers over RTMP and RTMPS, and FLV or MPEG-TS over
//     HTTP.
//   - deliver: serves players over RTMP, FLV, MPEG-TS and fragmented MP4 over HTTP
//     and WebSocket, HLS and DASH.
//
// A server is a Hub between the two:
//
//	hub := &stream.Hub{}
//	in := &ingest.Server{Hub: hub, Auth: auth.AllowAll}
//	out := &deliver.Server{Hub: hub, Auth: auth.AllowAll}
//	go in.ServeRTMP(listener, out) // publishers to in, players to out
//	http.ListenAndServe(":8080", out)
//
// README.md says what works today, docs/design.md how it is built and
// docs/performance.md how fast it is.
package runnel
