package rtmp

import (
	"errors"
	"strings"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/amf"
	"github.com/runnel-media/runnel/stream"
)

// A command is a command message (RTMP 1.0, section 7.2): a name, a number
// under which the sender wants the answer, an object (connect) or null, and
// arguments.
type command struct {
	name   string
	id     float64
	object amf.Object
	args   []any
	stream uint32
}

// parseCommand reads a command message of either AMF version. It may be cut
// short behind the name: some old encoders do that, and ffmpeg as a server.
func parseCommand(m message) (command, error) {
	body := m.body
	if m.typ == typeCommandAMF3 && len(body) > 0 && body[0] == 0 {
		body = body[1:] // the AMF3 form has a format byte; AMF0 values follow
	}
	values, err := amf.Decode(body)
	if len(values) == 0 {
		return command{}, errors.Join(errCommand, err)
	}
	cmd := command{stream: m.stream}
	var ok bool
	if cmd.name, ok = values[0].(string); !ok {
		return command{}, errCommand
	}
	if len(values) > 1 {
		if cmd.id, ok = values[1].(float64); !ok {
			return command{}, errCommand
		}
	}
	if len(values) > 2 {
		cmd.object, _ = amf.AsObject(values[2])
		cmd.args = values[3:]
	}
	return cmd, nil
}

// text returns argument i if it is a string, otherwise "".
func (c *command) text(i int) string {
	if i >= len(c.args) {
		return ""
	}
	s, _ := c.args[i].(string)
	return s
}

// flag returns argument i if it is a boolean, otherwise other.
func (c *command) flag(i int, other bool) bool {
	if i < len(c.args) {
		if v, ok := c.args[i].(bool); ok {
			return v
		}
	}
	return other
}

// appendCommand appends a command message. The peer must have been told
// PlayChunkSize.
func appendCommand(dst []byte, stream uint32, values ...any) []byte {
	body, err := amf.Append(nil, values...)
	if err != nil {
		return dst // not with the values that we write
	}
	return appendChunks(dst, PlayChunkSize, csidCommand, typeCommandAMF0, 0, stream, body, nil)
}

// A status is what onStatus tells.
type status struct{ level, code, description string }

func appendStatus(dst []byte, stream uint32, s status, more ...amf.Property) []byte {
	info := append(amf.Object{
		{Name: "level", Value: s.level},
		{Name: "code", Value: s.code},
		{Name: "description", Value: s.description},
	}, more...)
	return appendCommand(dst, stream, "onStatus", 0, nil, info)
}

// Statuses of what goes well.
var (
	publishStart   = status{"status", "NetStream.Publish.Start", "Publishing."}
	unpublished    = status{"status", "NetStream.Unpublish.Success", "Publishing stopped."}
	playReset      = status{"status", "NetStream.Play.Reset", "Playlist reset."}
	playStart      = status{"status", "NetStream.Play.Start", "Playing."}
	playGone       = status{"status", "NetStream.Play.UnpublishNotify", "The stream has ended."}
	playStop       = status{"status", "NetStream.Play.Stop", "Playing stopped."}
	pauseNotify    = status{"status", "NetStream.Pause.Notify", "Paused."}
	unpauseNotify  = status{"status", "NetStream.Unpause.Notify", "Playing again."}
	seekFailed     = status{"error", "NetStream.Seek.Failed", "A live stream cannot be sought."}
	switchFailed   = status{"error", "NetStream.Play.Failed", "Switching streams is not supported."}
	redirected     = status{"error", "NetConnection.Connect.Rejected", "RTMP 302 redirect."}
	reconnect      = status{"status", "NetConnection.Connect.ReconnectRequest", "The stream goes on at another server."}
	connectSuccess = status{"status", "NetConnection.Connect.Success", "Connection succeeded."}
)

// refusals says what a peer is told for an error, by what it asked for. The
// codes are those that ffmpeg, OBS and librtmp's players know to be fatal.
var refusals = []struct {
	err           error
	publish, play status
}{
	{auth.ErrDenied,
		status{"error", "NetStream.Publish.Denied", "Not allowed."},
		status{"error", "NetStream.Play.Failed", "Not allowed."}},
	{stream.ErrName,
		status{"error", "NetStream.Publish.BadName", "Bad stream name."},
		status{"error", "NetStream.Play.StreamNotFound", "Bad stream name."}},
	{stream.ErrBusy,
		status{"error", "NetStream.Publish.BadName", "The stream is being published already."},
		status{"error", "NetStream.Play.Failed", "Too many sessions."}},
	{stream.ErrNotFound,
		status{"error", "NetStream.Publish.BadName", "No such stream."},
		status{"error", "NetStream.Play.StreamNotFound", "No such stream."}},
	{stream.ErrUnsupported,
		status{"error", "NetStream.Publish.Rejected", "Not supported."},
		status{"error", "NetStream.Play.NoSupportedTrackFound", "The stream cannot be sent over RTMP."}},
	{stream.ErrReplaced,
		status{"error", "NetStream.Publish.Rejected", "Another publisher took over."},
		status{"error", "NetStream.Play.Failed", "Another session took over."}},
	{stream.ErrKicked,
		status{"error", "NetStream.Publish.Rejected", "Ended by the operator."},
		status{"error", "NetStream.Play.Failed", "Ended by the operator."}},
	{stream.ErrClosed,
		status{"error", "NetStream.Publish.Rejected", "The server is shutting down."},
		status{"error", "NetStream.Play.Failed", "The server is shutting down."}},
	{nil, // any other error
		status{"error", "NetStream.Publish.Rejected", "Internal error."},
		status{"error", "NetStream.Play.Failed", "Internal error."}},
}

// refusal returns what to tell a peer whose request failed with err.
func refusal(action auth.Action, err error) status {
	for _, r := range refusals {
		if r.err != nil && !errors.Is(err, r.err) {
			continue
		}
		if action == auth.Publish {
			return r.publish
		}
		return r.play
	}
	panic("unreachable: the last entry matches any error")
}

// appendFarewell appends what a peer is told whose publication somebody ends
// with err. One that is sent elsewhere is asked to reconnect if it knows what
// that means (Enhanced RTMP v2, "Reconnect Request").
func appendFarewell(dst []byte, info *connectInfo, err error) []byte {
	var to *auth.Redirect
	if !info.reconnects || !errors.As(err, &to) {
		return appendRefusal(dst, streamID, auth.Publish, err)
	}
	app, _, _ := strings.Cut(to.Location, "?")
	if i := strings.LastIndexByte(app, '/'); i >= 0 {
		app = app[:i] // the stream's name is the peer's to keep
	}
	return appendStatus(dst, 0, reconnect, amf.Property{Name: "tcUrl", Value: app})
}

// appendRefusal appends what a peer is told whose request failed with err.
func appendRefusal(dst []byte, stream uint32, action auth.Action, err error) []byte {
	var to *auth.Redirect
	if errors.As(err, &to) {
		return appendStatus(dst, stream, redirected, amf.Property{Name: "ex", Value: amf.Object{
			{Name: "code", Value: 302.0},
			{Name: "redirect", Value: to.Location},
		}})
	}
	return appendStatus(dst, stream, refusal(action, err))
}
