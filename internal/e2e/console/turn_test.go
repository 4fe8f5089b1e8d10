package console

import (
	"net"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api"
	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/api/console"
	"github.com/runnel-media/runnel/api/turnapi"
	"github.com/runnel-media/runnel/auth/turnauth"
	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/turn"
)

// TestTURN: a host with a TURN server alone has the console too, which shows
// its allocations and ends them.
func TestTURN(t *testing.T) {
	t.Parallel()
	users := &turnauth.Users{}
	require.NoError(t, users.Put(turnauth.User{Name: "alice", Password: "wonder"}))
	server := &turn.Server{Realm: "example.org", Auth: users}
	server.SetPolicy(&turn.Policy{Peers: turn.PeerPolicy{AllowLoopback: true}})
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = server.ServePacket(pc) }() // ends with Close
	defer server.Close()
	token, err := access.ParseToken("admin:" + admin)
	require.NoError(t, err)
	gate := &access.Gate{Auth: access.Tokens{token}}
	web := httptest.NewServer(&api.Handler{Gate: gate, TURN: &turnapi.Handler{Server: server, Gate: gate}, Console: console.Handler()})
	t.Cleanup(func() { // when the browser is gone
		web.CloseClientConnections()
		web.Close()
	})
	relay, err := (&turn.Client{Server: pc.LocalAddr().String(), Username: "alice", Password: "wonder"}).Allocate(t.Context(), nil)
	require.NoError(t, err)
	defer relay.Close()

	page := peer.StartBrowser(t).Open(t, web.URL+"/console/")
	in(t, page, admin)
	page.Until(t, live, `document.querySelectorAll("#view tbody tr").length === 1`)
	require.Equal(t, "TURN", text(t, page, "#nav"))
	require.Contains(t, text(t, page, "#view tbody"), "alice")
	require.Contains(t, text(t, page, "#view tbody"), relay.LocalAddr().String())
	accessible(t, page, "turn")
	page.Screenshot(t, "console-turn")
	peer.Eval[any](t, page, `document.querySelector("#view tbody button").click(), null`)
	page.Until(t, live, `document.querySelector("#confirm").open`)
	page.Press(t, "\t\r")
	page.Until(t, live, `document.querySelectorAll("#view tbody tr").length === 0`)
	for range server.Allocations() {
		t.Fatal("there is one still")
	}
	require.NotContains(t, page.Console(), "exception")
}
