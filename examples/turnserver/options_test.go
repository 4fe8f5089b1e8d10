package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/turn"
)

// given parses flags with a turnserver.conf behind them.
func given(t *testing.T, conf string, args ...string) (*options, error) {
	t.Helper()
	if conf != "" {
		path := filepath.Join(t.TempDir(), "turnserver.conf")
		require.NoError(t, os.WriteFile(path, []byte(conf), 0o600))
		args = append(args, "-config", path)
	}
	return parse(args)
}

// TestConf: the directives of a common turnserver.conf, as flags.
func TestConf(t *testing.T) {
	o, err := given(t, `
# comment
listening-ip=192.0.2.1
listening-ip = "2001:db8::1"
listening-port=3479
tls-listening-port=443
no-tcp
no-dtls
relay-ip=192.0.2.1
external-ip=198.51.100.7/192.0.2.1
min-port=50000
max-port=50100
lt-cred-mech
user=alice:secret
user=bob:0xbc807ee29df3c9ffa736523fb2c4e8ee
use-auth-secret
static-auth-secret=north
static-auth-secret=south
realm=example.org
cert=/etc/cert.pem
pkey=/etc/key.pem
fingerprint
no-cli
no-multicast-peers
denied-peer-ip=10.0.0.0-10.255.255.255
allowed-peer-ip=192.168.1.1
max-bps=64000
bps-capacity=1000000
user-quota=12
total-quota=1200
stale-nonce=600
max-allocate-lifetime=1800
mobility
rfc5766-channel-numbers
alternate-server=192.0.2.9:3478
tls-alternate-server=192.0.2.8
prometheus
prometheus-port=9642
verbose
redis-userdb="ip=127.0.0.1 dbname=2 password=turn port=6379"
redis-statsdb="ip=127.0.0.1 dbname=3"
cli-password=x
web-admin
`, "-user-quota", "5")
	require.NoError(t, err)
	require.Equal(t, []string{"192.0.2.1:3479/udp", "[2001:db8::1]:3479/udp"}, []string(o.listen))
	require.Equal(t, []string{"192.0.2.1:443/tcp", "[2001:db8::1]:443/tcp"}, []string(o.tls))
	require.Equal(t, []string{"alice:secret", "bob:0xbc807ee29df3c9ffa736523fb2c4e8ee"}, []string(o.users))
	require.Equal(t, []string{"north", "south"}, []string(o.secrets))
	require.Equal(t, "redis:ip=127.0.0.1 dbname=2 password=turn port=6379", o.db)
	require.Equal(t, "redis:ip=127.0.0.1 dbname=3", o.statsdb)
	require.Equal(t, ":9642", o.metrics)
	require.True(t, o.coturnMetrics)
	require.Equal(t, "DEBUG", o.logLevel.String())
	require.Equal(t, []string{"cli-password (line 42)", "web-admin (line 43)"}, o.unknown)
	r, err := o.relays()
	require.NoError(t, err)
	require.Equal(t, []turn.RelayAddr{{Listen: netip.MustParseAddr("192.0.2.1"), Public: netip.MustParseAddr("198.51.100.7")}}, r.(*turn.RelayPorts).Addrs)

	p := o.policy(&who{})
	require.Equal(t, 5, p.UserQuota, "a flag wins")
	require.Equal(t, 1200, p.RealmQuota)
	require.EqualValues(t, 8*64000, p.SessionRate, "coturn counts bytes")
	require.EqualValues(t, 8*1000000, p.ServerRate)
	require.Equal(t, 10*time.Minute, p.NonceLife)
	require.Equal(t, 30*time.Minute, p.MaxLifetime)
	require.True(t, p.Mobility)
	require.True(t, p.RFC5766Channels)
	require.Equal(t, "10.0.0.0-10.255.255.255", p.Peers.Deny[0].String())
	require.Equal(t, "192.168.1.1", p.Peers.Allow[0].String())
	require.Equal(t, []turn.Alternate{
		{Server: netip.MustParseAddrPort("192.0.2.9:3478")},
		{Server: netip.MustParseAddrPort("192.0.2.8:5349"), Transport: "tls"},
		{Server: netip.MustParseAddrPort("192.0.2.8:5349"), Transport: "dtls"},
	}, p.Alternates)
	require.Contains(t, p.Peers.Endpoints, netip.MustParseAddrPort("127.0.0.1:9642"), "clients don't reach the metrics")
}

func TestConfRefuses(t *testing.T) {
	for conf, says := range map[string]string{
		"no-auth":                            "open relay",
		"user=alice:x\nstale-nonce=0":        "never goes stale",
		"user=alice:x\nmin-port=many":        "line 2",
		"user=alice:x\ndenied-peer-ip=here":  "line 2",
		"realm=example.org":                  "no credentials",
		"user=alice:x\nalternate-server=foo": "alternate-server",
	} {
		_, err := given(t, conf)
		require.ErrorContains(t, err, says, conf)
	}
}

func TestListenAddresses(t *testing.T) {
	o := &options{}
	require.NoError(t, o.flags().Parse([]string{"-listen", "127.0.0.1:3478", "-listen", "[::1]:3479/tcp", "-tls", "127.0.0.1:443/udp"}))
	all, err := o.endpoints()
	require.NoError(t, err)
	require.Equal(t, []endpoint{
		{netip.MustParseAddrPort("127.0.0.1:3478"), false, true, true},
		{netip.MustParseAddrPort("[::1]:3479"), false, false, true},
		{netip.MustParseAddrPort("127.0.0.1:443"), true, true, false},
	}, all)
	for _, every := range []string{":3478", "0.0.0.0:3478"} {
		o = &options{listen: []string{every}}
		all, err = o.endpoints()
		require.NoError(t, err)
		require.Contains(t, all, endpoint{netip.MustParseAddrPort("127.0.0.1:3478"), false, true, true}, "each address has a socket of its own")
		for _, e := range all {
			require.False(t, e.Addr().IsUnspecified())
			require.True(t, every == ":3478" || e.Addr().Is4())
		}
	}
	for _, bad := range []string{"127.0.0.1", "127.0.0.1:3478/sctp", "127.0.0.1:many"} {
		_, err = (&options{listen: []string{bad}}).endpoints()
		require.Error(t, err, bad)
	}
}

func TestAlternate(t *testing.T) {
	for in, want := range map[string]turn.Alternate{
		"192.0.2.1":                    {Server: netip.MustParseAddrPort("192.0.2.1:3478")},
		"192.0.2.1,transport=tls":      {Server: netip.MustParseAddrPort("192.0.2.1:5349"), Transport: "tls"},
		"[2001:db8::1]:99,weight=3":    {Server: netip.MustParseAddrPort("[2001:db8::1]:99"), Weight: 3},
		"2001:db8::1":                  {Server: netip.MustParseAddrPort("[2001:db8::1]:3478")},
		"192.0.2.1:1,domain=a.example": {Server: netip.MustParseAddrPort("192.0.2.1:1"), Domain: "a.example"},
	} {
		got, err := alternate(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for _, bad := range []string{"", "example.org:3478", "192.0.2.1,weight=-1", "192.0.2.1,color=red"} {
		_, err := alternate(bad)
		require.Error(t, err, bad)
	}
}

func TestRelays(t *testing.T) {
	_, err := (&options{minPort: 1, maxPort: 2, extIP: []string{"198.51.100.7"}}).relays()
	require.ErrorContains(t, err, "no -relay-ip", "for what would it be?")
	r, err := (&options{minPort: 1, maxPort: 2, relayIP: []string{"192.0.2.1", "2001:db8::1"}, extIP: []string{"198.51.100.7"}}).relays()
	require.NoError(t, err)
	require.Equal(t, []turn.RelayAddr{
		{Listen: netip.MustParseAddr("192.0.2.1"), Public: netip.MustParseAddr("198.51.100.7")},
		{Listen: netip.MustParseAddr("2001:db8::1")},
	}, r.(*turn.RelayPorts).Addrs)
}

// TestFixed: what a reload can't change is named, and no flag is forgotten.
func TestFixed(t *testing.T) {
	a, err := parse([]string{"-user", "a:b"})
	require.NoError(t, err)
	b, err := parse([]string{"-user", "c:d", "-realm", "other", "-min-port", "50000", "-max-bps", "7"})
	require.NoError(t, err)
	require.Equal(t, []string{"min-port", "realm"}, a.fixed(b))
	for _, name := range changeable {
		require.NotNil(t, a.flags().Lookup(name), name)
	}
	for directive, flag := range directives {
		require.NotNil(t, a.flags().Lookup(flag), directive)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("RUNNEL_USER", "a:b,c:d")
	t.Setenv("RUNNEL_MIN_PORT", "50000")
	o, err := given(t, "min-port=60000\nuser=e:f")
	require.NoError(t, err)
	require.EqualValues(t, 50000, o.minPort, "the environment wins over the file")
	require.Equal(t, "a:b,c:d", strings.Join(o.users, ","))
}
