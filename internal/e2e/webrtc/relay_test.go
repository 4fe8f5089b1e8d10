package webrtc

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// program builds one of the examples.
func program(t *testing.T, name string) string {
	t.Helper()
	return lab.File(t, name+".exe", func(path string) {
		peer.Run(t, 5*time.Minute, "go", "build", "-C", "../../..", "-o", path, "./examples/"+name)
	})
}

// udpAddr returns an address that no UDP socket has.
func udpAddr(t *testing.T) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer pc.Close()
	return pc.LocalAddr().String()
}

// TestRelayed: a browser that may use relayed addresses alone plays through the
// mediaserver's own TURN server, with the credentials that came with the answer.
func TestRelayed(t *testing.T) {
	t.Parallel()
	page := startServer(t)
	browser := peer.StartBrowser(t)
	web, turn := peer.FreeAddr(t), peer.FreeAddr(t)
	media := udpAddr(t)
	peer.Start(t, program(t, "mediaserver"), "-rtmp", "", "-srt", "", "-http", web, "-webrtc", media, "-turn", turn)
	base := "http://" + web + "/whep/live/demo"
	peer.Eventually(t, live, "the mediaserver", func() bool {
		r, err := http.Get(base)
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusMethodNotAllowed
	})
	r, err := http.Post(base, "application/sdp", strings.NewReader("v=0"))
	require.NoError(t, err)
	r.Body.Close()
	require.Equal(t, http.StatusBadRequest, r.StatusCode)
	require.Empty(t, r.Header.Get("Link"), "who is refused gets no credentials")
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			p := browser.Open(t, page.http+"/page")
			peer.Eval[bool](t, p, "relayed('"+base+"', '"+transport+"').then(() => true)")
			got := until(t, p, "receiver", "pictures", func(s Stats) bool { return s.Frames > 25 && s.AudioPackets > 25 && s.Route != "" })
			require.Equal(t, []string{"relay", transport}, []string{got.Route, got.Relay})
		})
	}
}
