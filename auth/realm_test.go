package auth_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
)

func TestParseIPRange(t *testing.T) {
	for _, c := range []struct{ in, from, to string }{
		{"192.0.2.1", "192.0.2.1", "192.0.2.1"},
		{"192.0.2.1-192.0.2.9", "192.0.2.1", "192.0.2.9"},
		{" 192.0.2.1 - 192.0.2.9 ", "192.0.2.1", "192.0.2.9"},
		{"192.0.2.77/24", "192.0.2.0", "192.0.2.255"},
		{"0.0.0.0/0", "0.0.0.0", "255.255.255.255"},
		{"::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"},
		{"::ffff:192.0.2.0/120", "192.0.2.0", "192.0.2.255"},
		{"2001:db8::/33", "2001:db8::", "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff"},
		{"2001:db8::ff-2001:db8::1:1", "2001:db8::ff", "2001:db8::1:1"},
	} {
		r, err := auth.ParseIPRange(c.in)
		require.NoError(t, err, c.in)
		require.Equal(t, auth.IPRange{From: netip.MustParseAddr(c.from), To: netip.MustParseAddr(c.to)}, r, c.in)
	}
	for _, in := range []string{"", "a", "1.2.3", "1.2.3.4-", "1.2.3.4/33", "1.2.3.9-1.2.3.4", "1.2.3.4-::1", "fe80::1%eth0", "fe80::%e/64"} {
		_, err := auth.ParseIPRange(in)
		require.Error(t, err, in)
	}
}

func TestIPRangeContains(t *testing.T) {
	r, err := auth.ParseIPRange("2001:db8::ff-2001:db8::1:1")
	require.NoError(t, err)
	require.True(t, r.Contains(netip.MustParseAddr("2001:db8::1:0")), "compared as a number, not byte by byte")
	require.False(t, r.Contains(netip.MustParseAddr("2001:db8::fe")))
	require.False(t, r.Contains(netip.MustParseAddr("2001:db8::1:2")))
	require.False(t, r.Contains(netip.MustParseAddr("32.1.13.184")))

	r, err = auth.ParseIPRange("127.0.0.0/8")
	require.NoError(t, err)
	require.True(t, r.Contains(netip.MustParseAddr("::ffff:127.0.0.1")))
	require.Equal(t, "127.0.0.0-127.255.255.255", r.String())
}

func FuzzParseIPRange(f *testing.F) {
	for _, s := range []string{"192.0.2.1", "192.0.2.1-192.0.2.9", "192.0.2.0/24", "::/0", "::ffff:1.2.3.4/97"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := auth.ParseIPRange(s)
		if err != nil {
			return
		}
		if !r.Contains(r.From) || !r.Contains(r.To) {
			t.Fatalf("%q: %v does not contain its ends", s, r)
		}
		if again, err := auth.ParseIPRange(r.String()); err != nil || again != r {
			t.Fatalf("%q: %v reads back as %v, %v", s, r, again, err)
		}
	})
}
