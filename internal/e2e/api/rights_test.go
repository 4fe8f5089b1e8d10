package api

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/internal/rtmp"
)

// TestRightEnds: a token's end is that of WebRTC's sessions too. Package authz
// has the other protocols.
func TestRightEnds(t *testing.T) {
	t.Parallel()
	const token = "a token that ends"
	sum := sha256.Sum256([]byte(token))
	program(t, "mediaserver") // which takes longer than the token lasts
	webrtcPeer(t)
	until := time.Now().Add(15 * time.Second).Truncate(time.Second)
	m := startMediaserver(t, "-webrtc", peer.FreeAddr(t), "-public-ip", "127.0.0.1", "-auth", file(t, "auth.yaml", fmt.Sprintf(
		"tokens:\n  - {user: ann, token: 'sha256:%s', publish: [live/cam], play: ['**'], expires: %s}\n", hex.EncodeToString(sum[:]), until.Format(time.RFC3339))))
	var ended []func() bool
	for path, command := range map[string]string{"whip/live/cam": "publish", "whep/live/demo": "view"} {
		ended = append(ended, overWebRTC(path+"?token=a%20token%20that%20ends", command)(t, m))
	}
	var list struct{ Sessions []struct{ User string } }
	if require.Equal(t, 200, m.call(t, "GET", "/api/v2/sessions", "", &list)); time.Now().Before(until) {
		require.Len(t, list.Sessions, 2)
		require.Equal(t, "ann", list.Sessions[0].User)
	}
	peer.Eventually(t, live, "the end of the sessions", func() bool {
		m.call(t, "GET", "/api/v2/sessions", "", &list)
		return len(list.Sessions) == 0
	})
	require.False(t, time.Now().Before(until))
	for _, e := range ended {
		peer.Eventually(t, live, "the end of the peer", e)
	}
}

// TestClientCertificates: who has a certificate may, over RTMPS and HTTPS, and
// who has none, or one of another's, not.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t, "localhost")
	camCert, camKey := certificate(t, "cam")
	https := peer.FreeAddr(t)
	m := startMediaserver(t, "-https", https, "-cert", cert, "-key", key, "-client-ca", camCert,
		"-auth", file(t, "auth.yaml", "client_certificates: {publish: ['live/{user}'], play: [live/demo], role: viewer}\n"))
	cam, err := tls.LoadX509KeyPair(camCert, camKey)
	require.NoError(t, err)
	forged, err := tls.LoadX509KeyPair(certificate(t, "cam"))
	require.NoError(t, err)
	for name, c := range map[string]struct {
		certs []tls.Certificate
		ok    bool
	}{"cam": {[]tls.Certificate{cam}, true}, "nobody": {nil, false}, "forged": {[]tls.Certificate{forged}, false}} {
		config := &tls.Config{InsecureSkipVerify: true, Certificates: c.certs}
		publish := func(stream string) error {
			ctx, cancel := context.WithTimeout(t.Context(), live)
			defer cancel()
			conn, err := (&rtmp.Dialer{TLS: config}).Dial(ctx, "rtmps://"+m.rtmps+"/"+stream)
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = conn.Publish(ctx)
			return err
		}
		require.Equal(t, c.ok, publish("live/cam") == nil, name)
		require.Error(t, publish("live/other"), name)

		transport := &http.Transport{TLSClientConfig: config}
		defer transport.CloseIdleConnections()
		for path, want := range map[string]int{"/live/demo.m3u8": 200, "/api/v2/me": 200, "/live/other.flv": 401} {
			r, err := (&http.Client{Transport: transport}).Get("https://" + https + path)
			if name == "forged" {
				require.Error(t, err, path)
				continue
			}
			require.NoError(t, err)
			r.Body.Close()
			if !c.ok {
				want = 401
			}
			require.Equal(t, want, r.StatusCode, "%s %s", name, path)
		}
	}
}

// TestUsers: a user that the API makes publishes and plays by every way that
// passwords come, until it is deleted; a restart keeps it.
func TestUsers(t *testing.T) {
	t.Parallel()
	peer.Need(t, "ffmpeg")
	flags := []string{"-api-state", filepath.Join(t.TempDir(), "state"), "-auth", file(t, "auth.yaml", "limits: {reauthorize: 1s}\n")}
	m := startMediaserver(t, flags...)
	require.Equal(t, 201, m.call(t, "POST", "/api/v2/users", `{"name": "ann", "password": "correct-horse", "publish": ["{user}/*"], "play": ["live/demo"]}`, nil))
	require.NoError(t, m.Stop(t, live))
	m = startMediaserver(t, flags...)
	for format, urls := range map[string][]string{
		"flv":    {"rtmp://" + m.rtmp + "/ann/a?user=ann&password=correct-horse", "http://ann:correct-horse@" + m.http + "/ann/b.flv"},
		"mpegts": {"srt://" + m.srt + "?streamid=#!::r=ann/c,m=publish,u=ann,password=correct-horse"},
	} {
		for _, url := range urls {
			push(t, format, url)
		}
	}
	play(t, "http://ann:correct-horse@"+m.http+"/live/demo.flv")
	require.Error(t, push(t, "flv", "rtmp://"+m.rtmp+"/bob/a?user=ann&password=correct-horse").Wait(t, live))
	require.Error(t, push(t, "flv", "rtmp://"+m.rtmp+"/ann/d?user=ann&password=another-horse").Wait(t, live))
	var list struct{ Total int }
	peer.Eventually(t, live, "four sessions", func() bool {
		require.Equal(t, 200, m.call(t, "GET", "/api/v2/sessions?user=ann", "", &list))
		return list.Total == 4
	})
	require.Equal(t, 204, m.call(t, "DELETE", "/api/v2/users/ann", "", nil))
	peer.Eventually(t, live, "their end", func() bool {
		m.call(t, "GET", "/api/v2/sessions?user=ann", "", &list)
		return list.Total == 0
	})
	require.NotContains(t, m.Log(), "correct-horse")
}
