package srs

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// A client asks the HTTP API as the tools do that were written for SRS.
type client struct {
	t    *testing.T
	base string
}

func (c client) do(method, path string) (int, map[string]any) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, nil)
	require.NoError(c.t, err)
	res, err := http.DefaultClient.Do(req)
	require.NoError(c.t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(c.t, err)
	var v map[string]any
	require.NoError(c.t, json.Unmarshal(b, &v), "%s", b)
	return res.StatusCode, v
}

func (c client) status(method, path string) int {
	c.t.Helper()
	status, _ := c.do(method, path)
	return status
}

// get asks for what must be there.
func (c client) get(path string) map[string]any {
	c.t.Helper()
	status, v := c.do("GET", "/api/v1/"+path)
	require.Equal(c.t, 200, status)
	require.EqualValues(c.t, 0, v["code"], path)
	for _, field := range []string{"server", "service", "pid"} {
		require.NotEmpty(c.t, v[field], path)
	}
	return v
}

func (c client) list(kind string) (list []map[string]any) {
	c.t.Helper()
	for _, v := range c.get(kind + "/?start=0&count=100")[kind].([]any) {
		list = append(list, v.(map[string]any))
	}
	return list
}

// script is what a monitoring tool does, with nothing but a shell and curl: it looks
// at everything, and kicks the player of a stream.
const script = `
set -eu
get() { curl -fsS --max-time 10 "$API/api/v1/$1"; }
for route in versions summaries rusages self_proc_stats system_proc_stats meminfos authors features requests vhosts streams clients 'raw?rpc=raw' clusters; do
	get "$route" | grep -q '"code":0,"server":"vid-.*","service":".*","pid":"[0-9]*"' || { echo "no envelope: $route"; exit 1; }
done
get summaries | grep -q '"conn_srs":2'
stream=$(get streams | sed 's/.*"streams":\[{"id":"\([^"]*\)".*/\1/')
get "streams/$stream" | grep -q '"name":"livestream".*"publish":{"active":true'
get streams/vid-none | grep -q '^{"code":2048}$'
player=$(get clients | tr '{' '\n' | grep '"type":"rtmp-play"' | sed 's/.*"id":"\([^"]*\)".*/\1/')
get "clients/$player" | grep -q "\"stream\":\"$stream\""
curl -fsS --max-time 10 -X DELETE "$API/api/v1/clients/$player" | grep -q '"code":0'
curl -fsS --max-time 10 -X DELETE "$API/api/v1/clients/none" | grep -q '^{"code":2049}$'
get nothing | grep -q '"urls"'
echo kicked "$player"
`

// TestClientScript: a shell script that was written for SRS drives the API, and the
// player that it kicks is gone, as is the publisher after that.
func TestClientScript(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"ffmpeg", "curl", "sh"} {
		peer.Need(t, program)
	}
	s := start(t, func(s *server) (env, args []string) {
		return []string{
			"SRS_LISTEN=" + s.rtmp, "SRS_HTTP_API_ENABLED=on", "SRS_HTTP_API_LISTEN=" + s.api,
			"SRS_HTTP_SERVER_ENABLED=on", "SRS_HTTP_SERVER_LISTEN=" + s.http,
		}, []string{"-e"}
	})
	c := client{t: t, base: "http://" + s.api}
	publisher := publish(t, "rtmp://"+s.rtmp+"/live/livestream")
	peer.Eventually(t, 20*time.Second, "the stream", func() bool { return len(c.list("streams")) == 1 })
	player := peer.Start(t, "ffmpeg", "-nostdin", "-v", "error", "-i", "rtmp://"+s.rtmp+"/live/livestream", "-c", "copy", "-f", "null", "-")
	peer.Eventually(t, 20*time.Second, "the player", func() bool { return len(c.list("clients")) == 2 })

	out := peer.StartIn(t, "", []string{"API=http://" + s.api}, "sh", "-c", script)
	require.NoError(t, out.Wait(t, 60*time.Second), out.Log())
	require.Contains(t, out.Log(), "kicked ")
	_ = player.Wait(t, 20*time.Second) // ffmpeg takes the end as that of the stream

	clients := c.list("clients")
	require.Len(t, clients, 1)
	require.Equal(t, "fmle-publish", clients[0]["type"])
	status, v := c.do("DELETE", "/api/v1/clients/"+clients[0]["id"].(string))
	require.Equal(t, 200, status)
	require.EqualValues(t, 0, v["code"])
	require.Error(t, publisher.Wait(t, 20*time.Second))
	peer.Eventually(t, 20*time.Second, "nobody", func() bool { return len(c.list("clients")) == 0 && len(c.list("streams")) == 0 })

	// From a proxy, or by another name, nobody is let in without credentials.
	req, err := http.NewRequest("GET", c.base+"/api/v1/streams", nil)
	require.NoError(t, err)
	req.Header.Set("X-Forwarded-For", "127.0.0.1")
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, 403, res.StatusCode)
	s.interrupt(t)
}
