package natsregistry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/relay"
)

// short says what changes say.
func short(changes []relay.Change) (s string) {
	for _, c := range changes {
		sign := "+"
		if c.Gone {
			sign = "-"
		}
		if c.Server != nil {
			s += sign + c.Server.ID + " "
		} else {
			s += sign + c.Stream + "@" + c.Owner + " "
		}
	}
	return strings.TrimSpace(s)
}

func leased(id, session, url string) entry {
	return entry{key: "s." + id, value: fmt.Appendf(nil, `{"session":%q,"server":{"id":%q,"url":%q}}`, session, id, url)}
}

func claimedBy(stream, id, session string) entry {
	return entry{key: "c." + stream, value: fmt.Appendf(nil, `{"server":%q,"session":%q}`, id, session)}
}

func TestView(t *testing.T) {
	v := newView()
	for i, tt := range []struct {
		entry entry
		want  string
	}{
		{claimedBy("x", "a", "1"), ""},
		{leased("a", "1", "u"), "+a +x@a"},
		{leased("a", "1", "u"), ""},
		{leased("a", "1", "v"), "+a"},
		{claimedBy("x", "a", "1"), "+x@a"},
		{claimedBy("x", "b", "1"), "-x@a"},
		{leased("b", "1", "u"), "+b +x@b"},
		{claimedBy("x", "a", "0"), "-x@b"},
		{claimedBy("x", "a", "1"), "+x@a"},
		{leased("a", "2", "v"), "-x@a +a"},
		{leased("a", "1", "v"), "+a +x@a"},
		{entry{key: "s.a", gone: true}, "-x@a -a"},
		{entry{key: "s.a", gone: true}, ""},
		{leased("a", "1", "v"), "+a +x@a"},
		{entry{key: "c.x", gone: true}, "-x@a"},
		{entry{key: "c.x", gone: true}, ""},
		{claimedBy("=C3=A4", "a", "1"), "+ä@a"},
		{entry{key: "c.=C3=A4", value: []byte("nonsense")}, "-ä@a"},
		{entry{key: "s.b", value: []byte("nonsense")}, "-b"},
		{entry{key: "s.a", value: leased("b", "1", "").value}, "-a"},
		{entry{key: "c.=zz", value: claimedBy("x", "a", "1").value}, ""},
		{entry{key: "other"}, ""},
		{entry{key: "s."}, ""},
		{entry{key: "c.y", value: []byte(`{"server":"","session":"1"}`)}, ""},
		{entry{key: "s.c", value: []byte(`{"session":"","server":{"id":"c"}}`)}, ""},
	} {
		changes, err := v.apply(tt.entry)
		require.NoError(t, err)
		require.Equal(t, tt.want, short(changes), "%d: %+v", i, tt.entry)
	}
	require.Empty(t, v.servers)
	require.Empty(t, v.claims)
}

func TestKeys(t *testing.T) {
	for name, want := range map[string]string{
		"live/cam": "c.live/cam", "a.b": "c.a=2Eb", "=": "c.=3D", "ä": "c.=C3=A4", " ": "c.=20", "*>": "c.=2A=3E", "\x00": "c.=00",
	} {
		require.Equal(t, want, encodeKey(claimPrefix, name))
		got, err := decodeKey(want[2:], maxStream)
		require.NoError(t, err)
		require.Equal(t, name, got)
	}
	for _, bad := range []string{"", "=", "=2", "=2e", "=41", "a.b", "=ZZ", strings.Repeat("a", maxStream+1), strings.Repeat("=20", maxStream+1)} {
		_, err := decodeKey(bad, maxStream)
		require.ErrorIs(t, err, errKey, "%q", bad)
	}
}

// FuzzKey: a name has one key, which NATS takes, and a key one name.
func FuzzKey(f *testing.F) {
	f.Add("live/cam")
	f.Add("=41=2e.*>")
	f.Fuzz(func(t *testing.T, s string) {
		if name, err := decodeKey(s, maxStream); err == nil {
			require.Equal(t, claimPrefix+s, encodeKey(claimPrefix, name))
		}
		if key := encodeKey(claimPrefix, s); s != "" && len(s) <= maxStream {
			require.NotContains(t, key[len(claimPrefix):], ".")
			require.Regexp(t, `^[-/_=\.a-zA-Z0-9]+$`, key)
			name, err := decodeKey(key[len(claimPrefix):], maxStream)
			require.NoError(t, err)
			require.Equal(t, s, name)
		}
	})
}

// FuzzView feeds what another server may have written: what was said of servers and
// streams has to add up to what the view holds.
func FuzzView(f *testing.F) {
	f.Add("s.a", string(leased("a", "1", "u").value), "c.x", string(claimedBy("x", "a", "1").value), false)
	f.Add("c.x", string(claimedBy("x", "a", "1").value), "s.a", string(leased("a", "1", "u").value), true)
	f.Add("s.a", string(leased("a", "2", "u").value), "c.=2E", string(claimedBy("x", "a", "1").value), false)
	f.Fuzz(func(t *testing.T, key1, value1, key2, value2 string, gone bool) {
		v := newView()
		servers, owners := map[string]bool{}, map[string]string{}
		for _, w := range []entry{{key: key1, value: []byte(value1)}, {key: key2, value: []byte(value2)}, leased("a", "1", "u"), claimedBy("x", "a", "1"), {key: key1, value: []byte(value1), gone: gone}} {
			changes, err := v.apply(w)
			require.NoError(t, err)
			for _, c := range changes {
				switch {
				case c.Server != nil:
					servers[c.Server.ID] = !c.Gone
				case !c.Gone:
					owners[c.Stream] = c.Owner
				default:
					require.Equal(t, owners[c.Stream], c.Owner)
					delete(owners, c.Stream)
				}
			}
		}
		for _, c := range v.all() {
			if c.Server != nil {
				require.True(t, servers[c.Server.ID])
			} else {
				require.Equal(t, c.Owner, owners[c.Stream])
				delete(owners, c.Stream)
			}
		}
		require.Empty(t, owners)
	})
}
