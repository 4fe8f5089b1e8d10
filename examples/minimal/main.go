// Minimal takes streams in over RTMP and plays them over RTMP and HTTP-FLV:
//
//	ffmpeg -re -i FILE -c copy -f flv rtmp://localhost:1935/live/x
//	ffplay http://localhost:8080/live/x.flv
package main

import (
	"log"
	"net"
	"net/http"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/stream"
)

func main() {
	hub := &stream.Hub{}
	in := &ingest.Server{Hub: hub, Auth: auth.AllowAll}
	out := &deliver.Server{Hub: hub, Auth: auth.AllowAll}

	l, err := net.Listen("tcp", "localhost:1935")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(in.ServeRTMP(l, out)) }()
	log.Fatal(http.ListenAndServe("localhost:8080", out))
}
