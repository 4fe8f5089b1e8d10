package turnauth_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth/turnauth"
)

func TestLinks(t *testing.T) {
	_, password := turnauth.Credentials("secret", `a"b`, time.Unix(1000, 0))
	require.Equal(t, []string{
		`<stun:s.example>; rel="ice-server"`,
		`<turn:t.example?transport=udp>; rel="ice-server"; username="1000:a\"b"; credential="` + password + `"; credential-type="password"`,
	}, turnauth.Links("secret", `a"b`, time.Unix(1000, 0), "stun:s.example", "turn:t.example?transport=udp"))
}
