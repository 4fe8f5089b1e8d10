package srsapi

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"slices"
	"strings"
	"time"

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
		Enabled bool `json:"enabled"`
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

// defaultVhost is SRS's name of the virtual host that all streams are of.
const defaultVhost = "__defaultVhost__"

// idOf makes an ID as SRS's look, always the same of one name.
func idOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	return "vid-" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:5]))
}

// split takes a hub key apart.
func split(key string) (app, name string) {
	if i := strings.LastIndexByte(key, '/'); i >= 0 {
		return key[:i], key[i+1:]
	}
	return "", key
}

// A crowd is what the sessions of one stream come to.
type crowd struct {
	clients   int
	sent      uint64
	recv      uint64
	sendBits  float64
	recvBits  float64
	publisher stream.SessionInfo
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

func (h *Handler) vhosts(id string) envelope {
	v := vhostInfo{ID: idOf(defaultVhost), Name: defaultVhost, Enabled: true}
	if id != "" && id != v.ID {
		return envelope{Code: vhostNotFound}
	}
	v.HLS.Enabled = h.features().Features["hls"]
	var sum bitRates
	for _, c := range h.crowds() {
		v.Clients += c.clients
		v.SendBytes += c.sent
		v.RecvBytes += c.recv
		sum.send += c.sendBits
		sum.recv += c.recvBits
	}
	v.KBPS = sum.rounded()
	for range h.Hub.Streams() {
		v.Streams++
	}
	if id != "" {
		return envelope{Vhost: v}
	}
	return envelope{Vhosts: []vhostInfo{v}}
}

// bitRates are bits a second before they are rounded.
type bitRates struct{ recv, send float64 }

func (b bitRates) rounded() kbps { return kbps{int64(b.recv / 1000), int64(b.send / 1000)} }

func (h *Handler) streams(id string, start, count int) envelope {
	live := slices.SortedFunc(h.Hub.Streams(), func(a, b *stream.Stream) int { return strings.Compare(a.Name(), b.Name()) })
	crowds := h.crowds()
	if id != "" {
		for _, s := range live {
			if idOf(s.Name()) == id {
				return envelope{Stream: describeStream(s, crowds[s.Name()])}
			}
		}
		return envelope{Code: streamNotFound}
	}
	list := []streamInfo{}
	for _, s := range cut(live, start, count) {
		list = append(list, describeStream(s, crowds[s.Name()]))
	}
	return envelope{Streams: list}
}

func describeStream(s *stream.Stream, c *crowd) streamInfo {
	if c == nil {
		c = &crowd{}
	}
	st := s.Stats()
	app, name := split(s.Name())
	info := streamInfo{
		ID: idOf(s.Name()), Name: name, Vhost: idOf(defaultVhost), App: app, TCURL: "rtmp://" + defaultVhost + "/" + app, URL: "/" + s.Name(),
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
		return envelope{Client: describeClient(s)}
	}
	all := slices.SortedFunc(h.Hub.Sessions(), func(a, b *stream.Session) int {
		return cmp.Or(a.Info().Started.Compare(b.Info().Started), strings.Compare(a.ID(), b.ID()))
	})
	list := []clientInfo{}
	for _, s := range cut(all, start, count) {
		list = append(list, describeClient(s))
	}
	return envelope{Clients: list}
}

func describeClient(s *stream.Session) clientInfo {
	info, st := s.Info(), s.Stats()
	app, name := split(info.Stream)
	c := clientInfo{
		ID: info.ID, Vhost: idOf(defaultVhost), Stream: idOf(info.Stream), TCURL: "rtmp://" + defaultVhost + "/" + app,
		URL: "/" + info.Stream, Name: name, Type: clientType(info.Protocol, info.Role), Publish: info.Role == stream.RolePublish,
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
