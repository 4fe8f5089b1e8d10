package main

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/pprof"
	"path"
	"sort"
	"strings"
	"time"

	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/stream"
)

// media are the extensions under which streams are played.
var media = map[string]bool{".flv": true, ".mp4": true, ".ts": true, ".aac": true, ".mp3": true, ".m3u8": true, ".mpd": true}

// routes puts the page, the streams and the figures on one port.
func routes(hub *stream.Hub, in *ingest.Server, out *deliver.Server, o *options) http.Handler {
	page := webHandler()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		switch ext := path.Ext(r.URL.Path); {
		case r.Method == http.MethodPost || r.Method == http.MethodPut:
			in.ServeHTTP(w, r)
		case media[ext] || strings.Contains(r.URL.Path, "/_hls/"):
			out.ServeHTTP(w, r)
		default:
			page.ServeHTTP(w, r)
		}
	})
	mux.HandleFunc("GET /streams.json", func(w http.ResponseWriter, r *http.Request) { writeJSON(w, listStreams(hub, o)) })
	mux.HandleFunc("GET /stats.json", func(w http.ResponseWriter, r *http.Request) { writeJSON(w, figures(hub)) })
	return mux
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	json.NewEncoder(w).Encode(v)
}

type streamList struct {
	Streams []streamInfo      `json:"streams"`
	Publish map[string]string `json:"publish"`
}

type streamInfo struct {
	Name    string      `json:"name"`
	Tracks  []trackInfo `json:"tracks"`
	Viewers int         `json:"viewers"`
	BitRate float64     `json:"bitrate"` // bits a second
	Uptime  float64     `json:"uptime"`  // seconds
	MIME    string      `json:"mime"`    // of NAME.mp4
}

type trackInfo struct {
	Kind     string  `json:"kind"`
	Codec    string  `json:"codec"`
	Detail   string  `json:"detail,omitempty"`
	Width    int     `json:"width,omitempty"`
	Height   int     `json:"height,omitempty"`
	FPS      float64 `json:"fps,omitempty"`
	Rate     int     `json:"rate,omitempty"`
	Channels int     `json:"channels,omitempty"`
}

func listStreams(hub *stream.Hub, o *options) streamList {
	viewers := make(map[string]int)
	for s := range hub.Sessions() {
		if info := s.Info(); info.Role == stream.RolePlay {
			viewers[info.Stream]++
		}
	}
	list := streamList{Streams: []streamInfo{}, Publish: map[string]string{}}
	if o.rtmp != "" {
		if _, port, err := net.SplitHostPort(o.rtmp); err == nil {
			list.Publish["rtmp"] = "rtmp://localhost:" + port + "/live/NAME"
		}
	}
	if o.webrtc.addr != "" {
		list.Publish["whip"] = "/whip/live/NAME"
	}
	for s := range hub.Streams() {
		st := s.Stats()
		info := streamInfo{
			Name:    s.Name(),
			Tracks:  []trackInfo{},
			Viewers: viewers[s.Name()],
			BitRate: st.BitRate.Last10s,
			Uptime:  st.Uptime.Seconds(),
			MIME:    deliver.ContentType(s, "mp4"),
		}
		for _, t := range st.Tracks {
			info.Tracks = append(info.Tracks, describe(t))
		}
		list.Streams = append(list.Streams, info)
	}
	sort.Slice(list.Streams, func(i, j int) bool { return list.Streams[i].Name < list.Streams[j].Name })
	return list
}

func describe(ts stream.TrackStats) trackInfo {
	t := ts.Track
	info := trackInfo{Kind: t.Kind().String(), Codec: t.Codec.String()}
	switch t.Kind() {
	case stream.Video:
		info.FPS = ts.FrameRate
		if v, err := t.Video(); err == nil {
			info.Detail = v.Profile
			if v.Level != "" {
				info.Detail += " " + v.Level
			}
			info.Width, info.Height = v.Width, v.Height
			if v.FPS > 0 {
				info.FPS = v.FPS
			}
		}
	case stream.Audio:
		info.Rate, info.Channels = t.Rate, t.Channels
		if a, err := t.Audio(); err == nil {
			info.Detail, info.Rate, info.Channels = a.Profile, a.Rate, a.Channels
		}
	}
	return info
}

// figures are the server's own, for those who measure it.
func figures(hub *stream.Hub) any {
	type bucket struct {
		AtMost float64 `json:"le_ms"` // 0: no bound
		Count  uint64  `json:"count"`
	}
	type latency struct {
		Buckets []bucket `json:"buckets"`
		P50     float64  `json:"p50_ms"`
		P99     float64  `json:"p99_ms"`
		Count   uint64   `json:"count"`
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	counts, count, _ := hub.Latency.Snapshot()
	buckets := make([]bucket, len(counts))
	for i, b := range counts {
		buckets[i] = bucket{ms(b.Bound), b.Count}
	}
	sessions := 0
	for range hub.Sessions() {
		sessions++
	}
	return struct {
		Sessions int     `json:"sessions"`
		Latency  latency `json:"latency"` // from a frame's arrival to its socket write
	}{sessions, latency{buckets, ms(hub.Latency.Quantile(0.5)), ms(hub.Latency.Quantile(0.99)), count}}
}

func servePprof(l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	return (&http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}).Serve(l)
}
