package conninfo_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth/internal/conninfo"
)

func TestParse(t *testing.T) {
	in, err := conninfo.Parse(" ip=192.0.2.1 dbname=2  password=a=b port=6379 user=u connect_timeout=30 read_timeout=3 ")
	require.NoError(t, err)
	require.Equal(t, &conninfo.Info{Host: "192.0.2.1", Port: "6379", User: "u", Password: "a=b", Database: "2",
		ConnectTimeout: 30 * time.Second, ReadTimeout: 3 * time.Second}, in)
	require.Equal(t, "192.0.2.1:6379", in.Address("1"))
	require.Equal(t, "127.0.0.1:1", new(conninfo.Info).Address("1"))

	for _, s := range []string{"host=a hunter2", "port=hunter2", "connect_timeout=-1", "port=70000", "hunter=hunter2"} {
		_, err := conninfo.Parse(s)
		require.Error(t, err, s)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestIs(t *testing.T) {
	for s, want := range map[string]bool{
		"host=localhost dbname=turn": true, "ip=127.0.0.1": true, "redis://u:p@host/2": false,
		"mysql://u@h/db?timeout=1s": false, "u:p@tcp(h)/db?a=b": false, "/var/lib/turn/turndb": false, "": false,
	} {
		require.Equal(t, want, conninfo.Is(s), s)
	}
}

func TestWithoutURL(t *testing.T) {
	for _, bad := range []string{"redis://user:hunter2@host:port/", "redis://user:hunter2@ho st/"} {
		_, err := url.Parse(bad)
		require.ErrorContains(t, err, "hunter2")
		require.NotContains(t, conninfo.WithoutURL(err).Error(), "hunter2")
	}
}
