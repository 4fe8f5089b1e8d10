package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func grants(g *Grant) Authorizer {
	return Func(func(context.Context, *Request) (*Grant, error) { return g, nil })
}

func fails(err error) Authorizer {
	return Func(func(context.Context, *Request) (*Grant, error) { return nil, err })
}

func TestAll(t *testing.T) {
	soon, late := time.Unix(100, 0), time.Unix(200, 0)
	first := &Grant{User: "ann", Expires: late, Limits: Limits{BitRate: 5, Sessions: 9}, Labels: map[string]string{"a": "1", "b": "1"}}
	second := &Grant{User: "bob", Realm: "r", Expires: soon, Limits: Limits{BitRate: 9, Sessions: 2}, Labels: map[string]string{"b": "2", "c": "2"}}
	g, err := All(grants(nil), grants(first), grants(second)).Authorize(t.Context(), &Request{})
	require.NoError(t, err)
	require.Equal(t, &Grant{User: "ann", Realm: "r", Expires: soon, Limits: Limits{BitRate: 5, Sessions: 2},
		Labels: map[string]string{"a": "1", "b": "1", "c": "2"}}, g)
	require.Equal(t, map[string]string{"a": "1", "b": "1"}, first.Labels, "Grants are not changed")

	down := errors.New("down")
	asked := false
	for _, c := range []struct {
		list []Authorizer
		want error
	}{
		{nil, ErrDenied},
		{[]Authorizer{grants(nil), nil}, ErrDenied},
		{[]Authorizer{grants(nil), fails(down), grants(nil)}, down},
		{[]Authorizer{fails(ErrDenied), Func(func(context.Context, *Request) (*Grant, error) { asked = true; return nil, nil })}, ErrDenied},
	} {
		_, err := All(c.list...).Authorize(t.Context(), &Request{})
		require.ErrorIs(t, err, c.want)
	}
	require.False(t, asked, "the first refusal ends it")
}

func TestByActionAndStream(t *testing.T) {
	a := ByAction{
		Play:    AllowAll,
		Publish: ByStream{{"live/closed", fails(ErrDenied)}, {"live/*", AllowAll}, {"live/x/*", nil}},
	}
	for _, c := range []struct {
		action Action
		stream string
		ok     bool
	}{
		{Play, "any/thing", true}, {Admin, "", false}, {Relay, "", false},
		{Publish, "live/a", true}, {Publish, "live/closed", false}, {Publish, "live/x/a", false}, {Publish, "other", false}, {Publish, "", false},
	} {
		_, err := a.Authorize(t.Context(), &Request{Action: c.action, Stream: c.stream})
		require.Equal(t, c.ok, err == nil, c)
	}
}

func TestSwap(t *testing.T) {
	var s Swap
	_, err := s.Authorize(t.Context(), &Request{})
	require.ErrorIs(t, err, ErrDenied)
	s.Set(AllowAll)
	_, err = s.Authorize(t.Context(), &Request{})
	require.NoError(t, err)
	s.Set(nil)
	_, err = s.Authorize(t.Context(), &Request{})
	require.ErrorIs(t, err, ErrDenied)
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"live/a", "live/a", true}, {"live/a", "live/b", false}, {"*", "live", true}, {"*", "live/a", false}, {"**", "live/a/b", true},
		{"live/*", "live/", true}, {"live/*", "live/a/b", false}, {"live/**", "live/a/b", true}, {"*/a*c", "x/abc", true},
		{"*/a*c", "x/ab/c", false}, {"**/x", "a/b/x", true}, {"", "", true}, {"", "a", false}, {"a*b*c", "aXbYbZc", true},
		{"*", strings.Repeat("x", 1000), true}, {strings.Repeat("*", 100) + "y", strings.Repeat("x", 250), false},
	} {
		require.Equal(t, c.want, Match(c.pattern, c.name), "%q %q", c.pattern, c.name)
	}
}

func TestTokens(t *testing.T) {
	hash := func(s string) [32]byte {
		h, err := HashToken(s)
		require.NoError(t, err)
		return h
	}
	const secret, old = "a long secret of ours", "another one that was ours"
	list := Tokens{
		{Hash: hash(secret), Rights: Rights{User: "studio", Patterns: map[Action][]string{Publish: {"live/studio"}, Play: {"live/**"}}, Limits: Limits{Sessions: 2}}},
		{Hash: hash(old), Rights: Rights{Patterns: map[Action][]string{Play: {"**"}}}, Expires: time.Now().Add(-time.Second)},
	}
	require.Equal(t, list[0].Hash, hash(fmt.Sprintf("sha256:%x", list[0].Hash)))
	for _, c := range []struct {
		r  Request
		ok bool
	}{
		{Request{Action: Publish, Stream: "live/studio", Token: secret}, true},
		{Request{Action: Publish, Stream: "live/studio", Password: secret}, true},
		{Request{Action: Play, Stream: "live/a/b", Token: secret}, true},
		{Request{Action: Publish, Stream: "live/other", Token: secret}, false},
		{Request{Action: Admin, Token: secret}, false},
		{Request{Action: Publish, Stream: "live/studio", Token: secret + "x"}, false},
		{Request{Action: Publish, Stream: "live/studio", Token: secret[1:]}, false},
		{Request{Action: Publish, Stream: "live/studio"}, false},
		{Request{Action: Play, Stream: "a", Token: old}, false},
		{Request{Action: Publish, Stream: "live/studio", Token: secret, Proof: func(Secret) bool { return true }}, false},
	} {
		g, err := list.Authorize(t.Context(), &c.r)
		require.Equal(t, c.ok, err == nil, c.r.Stream)
		if c.ok {
			require.Equal(t, &Grant{User: "studio", Limits: Limits{Sessions: 2}}, g)
		} else {
			require.ErrorIs(t, err, ErrDenied)
		}
	}
	for _, bad := range []string{"", "short", "sha256:12", "sha256:" + strings.Repeat("z", 64)} {
		_, err := HashToken(bad)
		require.Error(t, err)
	}
}

func TestSignedURLs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := func(id string) URLKey { return URLKey{ID: id, Secret: []byte("a secret of one key: " + id)} }
		old := &SignedURLs{Keys: []URLKey{key("1")}}
		s := &SignedURLs{Keys: []URLKey{key("2"), key("1")}, Limits: Limits{Sessions: 1}}
		end := time.Now().Add(time.Hour)
		want := URLGrant{Action: Play, Stream: "live/a", Expires: end, From: netip.MustParsePrefix("::ffff:192.0.2.77/120"), User: "a&b=c"}
		query, err := s.Sign(want)
		require.NoError(t, err)
		from := netip.MustParseAddrPort("192.0.2.9:5")
		good := Request{Action: Play, Stream: "live/a", RawQuery: query, Remote: from}
		g, err := s.Authorize(t.Context(), &good)
		require.NoError(t, err)
		require.Equal(t, &Grant{User: "a&b=c", Expires: end, Limits: Limits{Sessions: 1}}, g)

		// Any part changed, and it is worth nothing.
		for name, change := range map[string]func(*Request){
			"another action":   func(r *Request) { r.Action = Publish },
			"another stream":   func(r *Request) { r.Stream = "live/b" },
			"another address":  func(r *Request) { r.Remote = netip.MustParseAddrPort("192.0.3.9:5") },
			"no address":       func(r *Request) { r.Remote = netip.AddrPort{} },
			"nothing":          func(r *Request) { r.RawQuery = "" },
			"twice":            func(r *Request) { r.RawQuery += "&expires=99999999999" },
			"another before":   func(r *Request) { r.RawQuery = "expires=99999999999&" + r.RawQuery },
			"a fragment of it": func(r *Request) { r.RawQuery = r.RawQuery[:len(r.RawQuery)-9] },
			"long":             func(r *Request) { r.RawQuery += "&key=" + strings.Repeat("x", 1000) },
		} {
			r := good
			change(&r)
			_, err := s.Authorize(t.Context(), &r)
			require.ErrorIs(t, err, ErrDenied, name)
		}
		values, err := url.ParseQuery(query)
		require.NoError(t, err)
		for name := range values {
			forged := url.Values{}
			for k, v := range values {
				forged[k] = v
			}
			forged.Set(name, map[string]string{"expires": "99999999999", "ip": "0.0.0.0/0"}[name])
			r := good
			r.RawQuery = forged.Encode()
			_, err := s.Authorize(t.Context(), &r)
			require.ErrorIs(t, err, ErrDenied, name)
		}

		// Keys change: what the old one signed is good as long as it is there.
		query, err = old.Sign(URLGrant{Action: Publish, Stream: "x", Expires: end})
		require.NoError(t, err)
		r := Request{Action: Publish, Stream: "x", RawQuery: "a=b&" + query}
		_, err = s.Authorize(t.Context(), &r)
		require.NoError(t, err)
		_, err = (&SignedURLs{Keys: s.Keys[:1]}).Authorize(t.Context(), &r)
		require.ErrorIs(t, err, ErrDenied)
		_, err = (&SignedURLs{Keys: s.Keys, MaxLife: time.Minute}).Authorize(t.Context(), &r)
		require.ErrorIs(t, err, ErrDenied)
		g, err = (&SignedURLs{Keys: s.Keys, StartOnly: true}).Authorize(t.Context(), &r)
		require.NoError(t, err)
		require.Zero(t, g.Expires)
		time.Sleep(time.Hour)
		_, err = s.Authorize(t.Context(), &r)
		require.ErrorIs(t, err, ErrDenied)

		weak := &SignedURLs{Keys: []URLKey{{Secret: []byte("weak")}}}
		_, err = weak.Sign(URLGrant{Action: Play, Stream: "x", Expires: end})
		require.Error(t, err)
		_, err = s.Sign(URLGrant{Action: Play, Stream: "x"})
		require.Error(t, err)
	})
}

func FuzzSignedURLs(f *testing.F) {
	s := &SignedURLs{Keys: []URLKey{{ID: "1", Secret: []byte("0123456789abcdef")}}}
	q, err := s.Sign(URLGrant{Action: Play, Stream: "live/a", Expires: time.Unix(1, 0)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(q)
	f.Add("sig=&expires=1&ip=x")
	f.Fuzz(func(t *testing.T, q string) {
		if _, err := s.Authorize(t.Context(), &Request{Action: Play, Stream: "live/a", RawQuery: q}); !errors.Is(err, ErrDenied) {
			t.Fatal("it has expired in any case")
		}
	})
}

func TestAddresses(t *testing.T) {
	parse := func(list ...string) (out []IPRange) {
		for _, s := range list {
			r, err := ParseIPRange(s)
			require.NoError(t, err)
			out = append(out, r)
		}
		return out
	}
	a := &Addresses{Allow: parse("192.0.2.0/24", "2001:db8::/32", "::ffff:198.51.100.0/120"), Deny: parse("192.0.2.7", "2001:db8:bad::/48", "203.0.113.1-203.0.113.9")}
	for addr, ok := range map[string]bool{
		"192.0.2.1": true, "192.0.2.7": false, "::ffff:192.0.2.7": false, "::ffff:192.0.2.8": true, "192.0.3.1": false,
		"2001:db8::1": true, "2001:db8::1%eth0": true, "2001:db8:bad::1": false, "198.51.100.5": true, "203.0.113.5": false,
		"::ffff:203.0.113.5": false, "::192.0.2.1": false,
	} {
		_, err := a.Authorize(t.Context(), &Request{Remote: netip.AddrPortFrom(netip.MustParseAddr(addr), 5)})
		require.Equal(t, ok, err == nil, addr)
		if !ok {
			require.ErrorIs(t, err, ErrPolicy)
			require.ErrorIs(t, err, ErrDenied)
		}
	}
	_, err := a.Authorize(t.Context(), &Request{})
	require.ErrorIs(t, err, ErrPolicy, "no address")
	open := &Addresses{Deny: parse("192.0.2.7")}
	require.True(t, open.Allows(netip.MustParseAddr("8.8.8.8")))
	require.False(t, open.Allows(netip.MustParseAddr("::ffff:192.0.2.7")))
}

func TestOrigins(t *testing.T) {
	for _, c := range []struct {
		origin, page string
		none, ok     bool
	}{
		{"https://example.org", "", false, true}, {"https://EXAMPLE.org:8443", "", false, true}, {"https://example.org.", "", false, true},
		{"", "https://www.example.net/a?b", false, true}, {"https://example.org", "https://example.org/x", false, true},
		{"https://example.net", "", false, false}, // *. is below it
		{"https://evil.example", "", true, false}, {"https://example.org.evil.example", "", true, false},
		{"https://evilexample.org", "", true, false}, {"https://evil.example/example.org", "", true, false},
		{"https://example.org@evil.example", "", true, false}, {"null", "", true, false}, {"file:///x", "", true, false},
		{"https://example.org", "https://evil.example/", true, false}, {"", "", false, false}, {"", "", true, true}, {"", "%", true, false},
	} {
		o := &Origins{Hosts: []string{"Example.org", "*.example.net"}, AllowNone: c.none}
		_, err := o.Authorize(t.Context(), &Request{Origin: c.origin, PageURL: c.page})
		require.Equal(t, c.ok, err == nil, "%+v", c)
		if !c.ok {
			require.ErrorIs(t, err, ErrPolicy)
		}
	}
}

func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hash, err := HashToken("the right token, which is long")
		require.NoError(t, err)
		asked := 0
		tokens := Tokens{{Hash: hash, Rights: Rights{Patterns: map[Action][]string{Play: {"**"}}}}}
		a := &Throttle{Attempts: 5, Auth: Func(func(ctx context.Context, r *Request) (*Grant, error) {
			asked++
			return tokens.Authorize(ctx, r)
		})}
		try := func(from, token string) error {
			_, err := a.Authorize(t.Context(), &Request{Action: Play, Stream: "x", Token: token, Remote: netip.AddrPortFrom(netip.MustParseAddr(from), 1)})
			return err
		}
		for range 50 {
			require.ErrorIs(t, try("192.0.2.9", ""), ErrDenied) // says nothing: no guess
		}
		asked = 0
		for i := range 5 {
			require.NotErrorIs(t, try(fmt.Sprintf("2001:db8::%x", i), "wrong"), ErrPolicy)
		}
		require.ErrorIs(t, try("2001:db8::99", "the right token, which is long"), ErrPolicy)
		require.Equal(t, 5, asked, "the store is not asked any more")
		require.NoError(t, try("192.0.2.9", "the right token, which is long"))
		time.Sleep(time.Minute + time.Second)
		require.NoError(t, try("2001:db8::99", "the right token, which is long"))
	})
}

func ExampleSignedURLs() {
	keys := &SignedURLs{Keys: []URLKey{{ID: "2030", Secret: []byte("32 random bytes, base64 in a file")}}}
	// What a web site puts behind its links:
	query, err := keys.Sign(URLGrant{Action: Play, Stream: "live/demo", Expires: time.Now().Add(time.Hour)})
	fmt.Println(err)
	// What a server decides:
	_, err = keys.Authorize(context.Background(), &Request{Action: Play, Stream: "live/demo", RawQuery: query})
	fmt.Println(err)
	_, err = keys.Authorize(context.Background(), &Request{Action: Play, Stream: "live/other", RawQuery: query})
	fmt.Println(err)
	// Output:
	// <nil>
	// <nil>
	// auth: denied: the URL is not signed for this
}

func ExampleAll() {
	hash, _ := HashToken("a long secret of the studio")
	local, _ := ParseIPRange("10.0.0.0/8")
	authorizer := ByAction{
		Play: AllowAll,
		Publish: All(
			&Addresses{Allow: []IPRange{local}},
			&Throttle{Auth: Tokens{{Hash: hash, Rights: Rights{User: "studio", Patterns: map[Action][]string{Publish: {"live/**"}}}}}},
		),
	}
	for _, from := range []string{"10.0.0.1:5000", "192.0.2.1:5000"} {
		_, err := authorizer.Authorize(context.Background(), &Request{Action: Publish, Stream: "live/a",
			Token: "a long secret of the studio", Remote: netip.MustParseAddrPort(from)})
		fmt.Println(err)
	}
	// Output:
	// <nil>
	// auth: denied by policy: address
}
