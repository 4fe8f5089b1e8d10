package hooks

import (
	"encoding/json"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/runnel-media/runnel/api/internal/srsname"
	"github.com/runnel-media/runnel/stream"
)

// A message is the body of a callback. Fields that are pointers are those of some
// events.
type message struct {
	ServerID  string  `json:"server_id"`
	ServiceID string  `json:"service_id"`
	Action    string  `json:"action"`
	ClientID  string  `json:"client_id"`
	IP        string  `json:"ip"`
	VHost     string  `json:"vhost"`
	App       string  `json:"app"`
	SendBytes *uint64 `json:"send_bytes,omitempty"`
	RecvBytes *uint64 `json:"recv_bytes,omitempty"`
	TCURL     string  `json:"tcUrl"`
	PageURL   *string `json:"pageUrl,omitempty"`
	Stream    string  `json:"stream"`
	Param     string  `json:"param"`

	CWD      string   `json:"cwd,omitempty"`
	File     string   `json:"file,omitempty"`
	URL      *string  `json:"url,omitempty"`
	M3U8     *string  `json:"m3u8,omitempty"`
	M3U8URL  *string  `json:"m3u8_url,omitempty"`
	Duration *float64 `json:"duration,omitempty"` // seconds
	SeqNo    *uint64  `json:"seq_no,omitempty"`

	StreamURL string `json:"stream_url,omitempty"`
	StreamID  string `json:"stream_id,omitempty"`
}

// message makes what all events have, and what the peer alone decides.
func (c *Callbacks) message(e Event, info *stream.SessionInfo) *message {
	s := srsname.Parts(info.VHost, info.App, info.Name)
	m := &message{
		ServerID: c.ServerID, ServiceID: c.ServiceID, Action: string(e), ClientID: info.ID,
		VHost: s.VHost, App: s.App, Stream: s.Name, TCURL: info.TCURL, StreamURL: s.URL(), StreamID: s.ID(),
	}
	if ip := info.Remote.Addr(); ip.IsValid() {
		m.IP = ip.Unmap().String()
	}
	if m.TCURL == "" {
		m.TCURL = s.TCURL()
	}
	if info.RawQuery != "" {
		m.Param = "?" + info.RawQuery
	}
	switch e {
	case OnConnect:
		m.PageURL, m.StreamURL, m.StreamID = &info.PageURL, "", ""
	case OnPlay:
		m.PageURL = &info.PageURL
	case OnForwardBackend:
		m.Action = "on_forward"
	}
	return m
}

func (c *Callbacks) closeMessage(info *stream.SessionInfo, st stream.SessionStats) *message {
	m := c.message(OnClose, info)
	m.SendBytes, m.RecvBytes = &st.BytesOut, &st.BytesIn
	return m
}

func (c *Callbacks) file(streamName, storageName string) string {
	if c.File != nil {
		return c.File(streamName, storageName)
	}
	return storageName
}

func (c *Callbacks) dvrMessage(info *stream.SessionInfo, e stream.RecordingEnded) *message {
	m := c.message(OnDVR, info)
	m.CWD, m.File = workDir(), c.file(e.Stream, e.Name)
	return m
}

func (c *Callbacks) hlsMessage(info *stream.SessionInfo, e stream.SegmentStored) *message {
	m := c.message(OnHLS, info)
	seconds, playlist := e.Duration.Seconds(), c.file(e.Stream, e.Playlist)
	m.CWD, m.File = workDir(), c.file(e.Stream, e.Name)
	m.URL, m.M3U8, m.M3U8URL, m.Duration, m.SeqNo = &e.Name, &playlist, &e.Playlist, &seconds, &e.Sequence
	return m
}

func workDir() string {
	dir, _ := os.Getwd()
	return dir
}

// notifyWords takes the words out of an on_hls_notify URL, to see what is left.
var notifyWords = strings.NewReplacer("[server_id]", "x", "[app]", "x", "[stream]", "x", "[ts_url]", "x", "[param]", "")

// notifyURL makes the URL of an on_hls_notify. Words are put behind the host only,
// escaped as they must be in a path; [param] is the query as the publisher sent it,
// which the engines check.
func (c *Callbacks) notifyURL(template string, info *stream.SessionInfo, tsURL string) string {
	s := srsname.Parts(info.VHost, info.App, info.Name)
	escape := func(v string) string { return (&url.URL{Path: v}).EscapedPath() }
	param := ""
	if info.RawQuery != "" {
		param = "?" + info.RawQuery
	}
	if u, err := url.Parse("http://host/" + param); err != nil || u.Fragment != "" {
		param = ""
	}
	host, path := cutHost(template)
	return host + strings.NewReplacer(
		"[server_id]", escape(c.ServerID), "[app]", escape(s.App), "[stream]", escape(s.Name), "[ts_url]", escape(tsURL), "[param]", param,
	).Replace(path)
}

// cutHost cuts a URL behind its host.
func cutHost(s string) (host, path string) {
	begin := strings.Index(s, "//") + 2
	if begin < 2 {
		return s, ""
	}
	if n := strings.IndexAny(s[begin:], "/?#"); n >= 0 {
		return s[:begin+n], s[begin+n:]
	}
	return s, ""
}

func encode(m *message) []byte {
	body, err := json.Marshal(m)
	if err != nil { // of strings and numbers there is none
		panic("hooks: " + err.Error())
	}
	return body
}

// codeError is the code, not zero, with which a service has answered.
type codeError struct{ code int }

func (e *codeError) Error() string { return "code " + strconv.Itoa(e.code) }
