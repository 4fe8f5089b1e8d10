package srsapi

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/runnel-media/runnel/api/internal/srsname"
	"github.com/runnel-media/runnel/stream"
)

// kbps are kilobits a second, over 30 s in SRS.
type kbps struct {
	Recv int64 `json:"recv_30s"`
	Send int64 `json:"send_30s"`
}

type vhostInfo struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Enabled   bool   `json:"enabled"`
	Clients   int    `json:"clients"`
	Streams   int    `json:"streams"`
	SendBytes uint64 `json:"send_bytes"`
	RecvBytes uint64 `json:"recv_bytes"`
	KBPS      kbps   `json:"kbps"`
	HLS       struct {
		Enabled  bool    `json:"enabled"`
		Fragment float64 `json:"fragment,omitempty"` // seconds
	} `json:"hls"`
}

type streamInfo struct {
	ID          string      `json:"id"`
	Name        string      `json:"name"`
	Vhost       string      `json:"vhost"`
	App         string      `json:"app"`
	TCURL       string      `json:"tcUrl"`
	URL         string      `json:"url"`
	LiveMS      int64       `json:"live_ms"` // the time now, as in SRS
	Clients     int         `json:"clients"`
	Frames      uint64      `json:"frames"`
	AudioFrames uint64      `json:"audio_frames"`
	VideoFrames uint64      `json:"video_frames"`
	SendBytes   uint64      `json:"send_bytes"`
	RecvBytes   uint64      `json:"recv_bytes"`
	KBPS        kbps        `json:"kbps"`
	Publish     publishInfo `json:"publish"`
	Video       *videoInfo  `json:"video"`
	Audio       *audioInfo  `json:"audio"`
}

type publishInfo struct {
	Active bool   `json:"active"`
	CID    string `json:"cid,omitempty"`
}

type videoInfo struct {
	Codec   string `json:"codec"`
	Profile string `json:"profile"`
	Level   string `json:"level"`
	Width   int    `json:"width"`
	Height  int    `json:"height"`
}

type audioInfo struct {
	Codec      string `json:"codec"`
	SampleRate int    `json:"sample_rate"`
	Channel    int    `json:"channel"`
	Profile    string `json:"profile"`
}

type clientInfo struct {
	ID        string  `json:"id"`
	Vhost     string  `json:"vhost"`
	Stream    string  `json:"stream"`
	IP        string  `json:"ip"`
	PageURL   string  `json:"pageUrl"`
	SWFURL    string  `json:"swfUrl"`
	TCURL     string  `json:"tcUrl"`
	URL       string  `json:"url"`
	Name      string  `json:"name"`
	Type      string  `json:"type"`
	Publish   bool    `json:"publish"`
	Alive     float64 `json:"alive"` // seconds
	SendBytes uint64  `json:"send_bytes"`
	RecvBytes uint64  `json:"recv_bytes"`
	KBPS      kbps    `json:"kbps"`
}

// A crowd is what the sessions of one stream come to.
type crowd struct {
	clients   int
	sent      uint64
	recv      uint64
	sendBits  float64
	recvBits  float64
	named     *srsname.Stream // nil: no session told
	publisher stream.SessionInfo
}

// partsOf returns what a peer asked for, if its server said.
func partsOf(info stream.SessionInfo) *srsname.Stream {
	if info.Name == "" {
		return nil
	}
	s := srsname.Parts(info.VHost, info.App, info.Name)
	return &s
}

// partsOf takes a stream's name apart. c is its crowd, or nil.
func (h *Handler) partsOf(key string, c *crowd) srsname.Stream {
	if c != nil && c.named != nil {
		return *c.named
	}
	return srsname.Cut(key, func(first string) bool { return slices.Contains(h.VHosts, first) })
}

// crowds sums the sessions up by stream.
func (h *Handler) crowds() map[string]*crowd {
	all := map[string]*crowd{}
	for s := range h.Hub.Sessions() {
		info, st := s.Info(), s.Stats()
		c := all[info.Stream]
		if c == nil {
			c = &crowd{}
			all[info.Stream] = c
		}
		c.clients++
		if c.named == nil {
			c.named = partsOf(info)
		}
		c.sent += st.BytesOut
		c.recv += st.BytesIn
		if info.Role == stream.RolePlay {
			c.sendBits += st.BitRate
			continue
		}
		c.recvBits += st.BitRate
		if c.publisher.ID == "" || c.publisher.Started.Before(info.Started) {
			c.publisher = info
		}
	}
	return all
}

func (h *Handler) vhosts(id string, start, count int) envelope {
	names := append([]string{srsname.DefaultVHost}, h.VHosts...)
	crowds := h.crowds()
	sums := map[string]*vhostSum{}
	sum := func(s srsname.Stream) *vhostSum {
		if sums[s.VHost] == nil {
			sums[s.VHost] = &vhostSum{}
			if !slices.Contains(names, s.VHost) {
				names = append(names, s.VHost)
			}
		}
		return sums[s.VHost]
	}
	for key, c := range crowds {
		s := sum(h.partsOf(key, c))
		s.clients += c.clients
		s.sent += c.sent
		s.received += c.recv
		s.rates.send += c.sendBits
		s.rates.recv += c.recvBits
	}
	for st := range h.Hub.Streams() {
		sum(h.partsOf(st.Name(), crowds[st.Name()])).streams++
	}
	slices.Sort(names[1:])
	list := []vhostInfo{}
	for _, name := range slices.Compact(names) {
		v := vhostInfo{ID: srsname.ID(name), Name: name, Enabled: true}
		if v.HLS.Enabled = h.features().Features["hls"]; v.HLS.Enabled {
			v.HLS.Fragment = h.Fragment.Seconds()
		}
		if s := sums[name]; s != nil {
			v.Clients, v.Streams, v.SendBytes, v.RecvBytes, v.KBPS = s.clients, s.streams, s.sent, s.received, s.rates.rounded()
		}
		if v.ID == id {
			return envelope{Vhost: v}
		}
		list = append(list, v)
	}
	if id != "" {
		return envelope{Code: vhostNotFound}
	}
	return envelope{Vhosts: cut(list, start, count)}
}

// A vhostSum is what the streams of a virtual host come to.
type vhostSum struct {
	clients, streams int
	sent, received   uint64
	rates            bitRates
}

// bitRates are bits a second before they are rounded.
type bitRates struct{ recv, send float64 }

func (b bitRates) rounded() kbps { return kbps{int64(b.recv / 1000), int64(b.send / 1000)} }

func (h *Handler) streams(id string, start, count int) envelope {
	live := slices.SortedFunc(h.Hub.Streams(), func(a, b *stream.Stream) int { return strings.Compare(a.Name(), b.Name()) })
	crowds := h.crowds()
	if id != "" {
		for _, s := range live {
			if h.partsOf(s.Name(), crowds[s.Name()]).ID() == id {
				return envelope{Stream: h.describeStream(s, crowds[s.Name()])}
			}
		}
		return envelope{Code: streamNotFound}
	}
	list := []streamInfo{}
	for _, s := range cut(live, start, count) {
		list = append(list, h.describeStream(s, crowds[s.Name()]))
	}
	return envelope{Streams: list}
}

func (h *Handler) describeStream(s *stream.Stream, c *crowd) streamInfo {
	if c == nil {
		c = &crowd{}
	}
	st := s.Stats()
	parts := h.partsOf(s.Name(), c)
	info := streamInfo{
		ID: parts.ID(), Name: parts.Name, Vhost: parts.VHostID(), App: parts.App, TCURL: tcURL(c.publisher, parts), URL: parts.URL(),
		LiveMS: time.Now().UnixMilli(), Clients: c.clients, Frames: 0, SendBytes: c.sent, RecvBytes: st.Bytes,
		KBPS: bitRates{st.BitRate.Last30s, c.sendBits}.rounded(), Publish: publishInfo{Active: s.Publishing()},
	}
	if info.Publish.Active {
		info.Publish.CID = c.publisher.ID
	}
	for _, t := range st.Tracks {
		switch t.Track.Kind() { // the first of each kind is described, as far as is known
		case stream.Video:
			info.VideoFrames += t.Frames
			if info.Video == nil {
				v, _ := t.Track.Video()
				info.Video = &videoInfo{codecName(t.Track.Codec), v.Profile, v.Level, v.Width, v.Height}
			}
		case stream.Audio:
			info.AudioFrames += t.Frames
			if info.Audio == nil {
				a, _ := t.Track.Audio()
				info.Audio = &audioInfo{codecName(t.Track.Codec), a.Rate, a.Channels, a.Profile}
			}
		}
	}
	info.Frames = info.AudioFrames + info.VideoFrames
	return info
}

// codecName is SRS's name of a codec.
func codecName(c stream.Codec) string {
	switch c {
	case stream.H265:
		return "HEVC"
	case stream.Opus:
		return "Opus"
	}
	return strings.ToUpper(c.String())
}

func (h *Handler) clients(id string, start, count int) envelope {
	if id != "" {
		s := h.Hub.Session(id)
		if s == nil {
			return envelope{Code: clientNotFound}
		}
		return envelope{Client: h.describeClient(s)}
	}
	all := slices.SortedFunc(h.Hub.Sessions(), func(a, b *stream.Session) int {
		return cmp.Or(a.Info().Started.Compare(b.Info().Started), strings.Compare(a.ID(), b.ID()))
	})
	list := []clientInfo{}
	for _, s := range cut(all, start, count) {
		list = append(list, h.describeClient(s))
	}
	return envelope{Clients: list}
}

// tcURL is what a peer sent, without the query, which may hold secrets.
func tcURL(info stream.SessionInfo, parts srsname.Stream) string {
	if info.TCURL == "" {
		return parts.TCURL()
	}
	return withoutQuery(info.TCURL)
}

func withoutQuery(s string) string {
	s, _, _ = strings.Cut(s, "?")
	return s
}

func (h *Handler) describeClient(s *stream.Session) clientInfo {
	info, st := s.Info(), s.Stats()
	parts := h.partsOf(info.Stream, &crowd{named: partsOf(info)})
	c := clientInfo{
		ID: info.ID, Vhost: parts.VHostID(), Stream: parts.ID(), PageURL: withoutQuery(info.PageURL), TCURL: tcURL(info, parts),
		URL: parts.URL(), Name: parts.Name, Type: clientType(info.Protocol, info.Role), Publish: info.Role == stream.RolePublish,
		Alive: time.Since(info.Started).Seconds(), SendBytes: st.BytesOut, RecvBytes: st.BytesIn,
	}
	if ip := info.Remote.Addr(); ip.IsValid() {
		c.IP = ip.Unmap().String()
	}
	if c.Publish {
		c.KBPS = bitRates{recv: st.BitRate}.rounded()
	} else {
		c.KBPS = bitRates{send: st.BitRate}.rounded()
	}
	return c
}

// clientType is SRS's name of what a client does; HTTP-TS and the like, which
// have none there, count as HTTP-FLV, and DASH as HLS.
func clientType(protocol string, role stream.Role) string {
	publish := role == stream.RolePublish
	kind := protocol
	switch {
	case strings.HasPrefix(protocol, "rtmp"):
		kind = "rtmp"
		if publish {
			kind = "fmle"
		}
	case strings.HasPrefix(protocol, "http"), strings.HasPrefix(protocol, "ws"):
		kind = "flv"
	case protocol == "dash":
		kind = "hls"
	case protocol == "whip", protocol == "whep", protocol == "webrtc":
		kind = "rtc"
	}
	if publish {
		return kind + "-publish"
	}
	return kind + "-play"
}
