package turndb

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/auth/redisauth"
	"github.com/runnel-media/runnel/auth/sqlauth"
	"github.com/runnel-media/runnel/auth/turnauth"
	"github.com/runnel-media/runnel/internal/e2e/peer"
)

func TestDatabases(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := servers[name](t)
			t.Run("coturn's sample", func(t *testing.T) { testSample(t, s) })
			t.Run("coturn's turnadmin", func(t *testing.T) { testForeign(t, s) })
			t.Run("our turnadmin", func(t *testing.T) { testOurs(t, s) })
			t.Run("CVE-2018-4056 and GHSA-v8hj-2xx7-xmp5 hostile names", func(t *testing.T) { testHostile(t, s) })
			t.Run("rows that are none", func(t *testing.T) { testBroken(t, s) })
			t.Run("media users", func(t *testing.T) { testMedia(t, s) })
			t.Run("down", func(t *testing.T) { testDown(t, s) }) // the last: it stops the server
		})
	}
}

// relay asks whether a TURN client may, who signs with a key of his password.
func relay(t *testing.T, a auth.Authorizer, realm, user, password string) (*auth.Grant, error) {
	t.Helper()
	sign := func(key []byte) []byte {
		mac := hmac.New(sha1.New, key)
		mac.Write([]byte("message"))
		return mac.Sum(nil)
	}
	sent := sign(turnauth.Key(user, realm, password))
	return a.Authorize(t.Context(), &auth.Request{Action: auth.Relay, Protocol: "turn", Realm: realm, User: user,
		Proof: func(s auth.Secret) bool {
			if s.Plain != "" {
				s.Key = turnauth.Key(user, realm, s.Plain)
			}
			return bytes.Equal(sign(s.Key), sent)
		}})
}

func serve(db turnauth.Store) *turnauth.Stored {
	return &turnauth.Stored{Store: &turnauth.Cache{Store: db}}
}

// testSample: an existing database of coturn works as it is.
func testSample(t *testing.T, s server) {
	dsn, _, _ := s.fresh(t)
	db := open(t, dsn)
	s.sample(t, db)
	ctx := t.Context()
	require.NoError(t, db.Ping(ctx))
	a := serve(db)

	for _, u := range []struct{ realm, user, password string }{
		{"north.gov", "ninefingers", "youhavetoberealistic"}, {"north.gov", "gorst", "hero"},
		{"crinna.org", "whirrun", "sword"}, {"crinna.org", "stranger-come-knocking", "civilization"},
	} {
		g, err := relay(t, a, u.realm, u.user, u.password)
		require.NoError(t, err, u.user)
		require.Equal(t, u.user, g.User)
		for _, wrong := range [][3]string{{u.realm, u.user, "x"}, {"other", u.user, u.password}, {u.realm, u.user + " ", u.password},
			{u.realm, strings.ToUpper(u.user), u.password}, {strings.ToUpper(u.realm), u.user, u.password}} {
			_, err := relay(t, a, wrong[0], wrong[1], wrong[2])
			require.ErrorIs(t, err, auth.ErrDenied, "%q", wrong)
		}
	}
	// The key of gorst proves nobody else, also where the database has no case.
	_, err := db.UserKey(ctx, "north.gov", "Gorst")
	require.ErrorIs(t, err, turnauth.ErrUnknown)

	// Nor does changing one whose name differs by case change the other.
	same := turnauth.Row{Realm: "north.gov", Name: "GORST", Value: hex.EncodeToString(turnauth.Key("GORST", "north.gov", "x"))}
	require.Error(t, db.Delete(ctx, turnauth.UserTable, same))
	err = db.Put(ctx, turnauth.UserTable, same)
	require.Equal(t, s.noCase, err != nil, "%v", err)
	err = db.PutOAuthKey(ctx, &turnauth.OAuthKey{ID: "NORTH", Secret: make([]byte, 32)})
	require.Equal(t, s.noCase, err != nil, "%v", err)
	require.Equal(t, s.noCase, db.DeleteOAuthKey(ctx, "NORTH") != nil)
	_, err = relay(t, a, "north.gov", "gorst", "hero")
	require.NoError(t, err)
	require.Empty(t, rowNames(t, db, turnauth.UserTable, "NORTH.gov"))

	secrets, err := db.Secrets(ctx, "north.gov")
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"logen", "bloody9"}, secrets)
	for _, secret := range secrets {
		name, password := turnauth.Credentials(secret, "logen", time.Now().Add(time.Hour))
		g, err := relay(t, a, "north.gov", name, password)
		require.NoError(t, err)
		require.Equal(t, "logen", g.User)
		_, err = relay(t, a, "crinna.org", name, password)
		require.ErrorIs(t, err, auth.ErrDenied)
	}

	for origin, want := range map[string]string{"http://crinna.org:80": "crinna.org", "https://bligh.edu": "crinna.org",
		"HTTP://CRINNA.ORG": "crinna.org", "http://bligh.edu": "", "": ""} {
		realm, err := db.RealmOf(ctx, origin)
		require.NoError(t, err)
		require.Equal(t, want, realm, origin)
	}
	options, err := db.RealmOptions(ctx, "north.gov")
	require.NoError(t, err)
	require.Equal(t, auth.RealmOptions{BitRate: 500000 * 8, TotalQuota: 12000, UserQuota: 10000}, options)
	options, err = db.RealmOptions(ctx, "other")
	require.NoError(t, err)
	require.Zero(t, options)

	rules, err := db.PeerRules(ctx, "crinna.org")
	require.NoError(t, err)
	require.Contains(t, ranges(rules.Allow), "172.17.13.202")
	require.NotContains(t, ranges(rules.Allow), "172.17.13.201")
	require.Contains(t, ranges(rules.Deny), "123::77")
	if _, redis := db.(*redisauth.DB); !redis { // its sample has no rows of every realm
		require.ElementsMatch(t, []string{"172.17.13.200", "172.17.13.202"}, ranges(rules.Allow))
		require.ElementsMatch(t, []string{"172.17.13.133-172.17.14.56", "123::45", "123::77"}, ranges(rules.Deny))
	}

	for id, realm := range map[string]string{"north": "crinna.org", "union": "north.gov", "oldempire": ""} {
		key, err := db.OAuthKey(ctx, id)
		require.NoError(t, err)
		require.NoError(t, key.Check())
		require.Equal(t, realm, key.Realm)
	}
	token := foreignToken(t)
	key, err := db.OAuthKey(ctx, "union")
	require.NoError(t, err)
	opened, err := key.Open(token, "blackdow.carleon.gov")
	require.NoError(t, err, "a token that turnutils_oauth sealed")
	require.Equal(t, "ZksjpweoixXmvn67534m", string(opened.MACKey))

	admins := map[string]turnauth.Row{}
	for r, err := range db.Rows(ctx, turnauth.AdminTable, "") {
		require.NoError(t, err)
		admins[r.Name] = r
	}
	require.Equal(t, "north.gov", admins["skarling"].Realm)
	require.True(t, turnauth.CheckAdminPassword(admins["skarling"].Value, "hoodless"))
	require.Empty(t, admins["bayaz"].Realm)
	require.True(t, turnauth.CheckAdminPassword(admins["bayaz"].Value, "magi"))
}

func ranges(list []auth.IPRange) (out []string) {
	for _, r := range list {
		out = append(out, r.String())
	}
	return out
}

// foreignToken is what coturn's tool seals with the sample's key "union".
func foreignToken(t *testing.T) []byte {
	t.Helper()
	out := string(peer.Run(t, 10*time.Second, "turnutils_oauth", "-e", "--server-name", "blackdow.carleon.gov", "--auth-key-id", "union",
		"--auth-key", "MTIzNDU2Nzg5MDEyMzQ1Ngo=", "--auth-key-as-rs-alg", "A128GCM",
		"--auth-key-timestamp", "1", "--auth-key-lifetime", "3600",
		"--token-mac-key", "WmtzanB3ZW9peFhtdm42NzUzNG0=", "--token-lifetime=3600"))
	_, rest, ok := strings.Cut(out, `"access_token":"`)
	require.True(t, ok, out)
	text, _, _ := strings.Cut(rest, `"`)
	token, err := base64.StdEncoding.DecodeString(text)
	require.NoError(t, err)
	return token
}

// testForeign: we read what coturn's turnadmin writes.
func testForeign(t *testing.T, s server) {
	peer.Need(t, "turnadmin")
	dsn, flag, name := s.fresh(t)
	db := open(t, dsn)
	if d, ok := db.(*sqlauth.DB); ok {
		execSQL(t, d, strings.Split(coturnFile(t, "schema.sql"), ";")...)
	}
	coturn := func(args ...string) string { return coturnAdmin(t, flag, name, args...) }
	coturn("-a", "-u", "alice", "-r", "north.gov", "-p", "wonder")
	coturn("-a", "-u", "bob", "-r", "north.gov", "-p", "first")
	coturn("-a", "-u", "bob", "-r", "north.gov", "-p", "second")
	coturn("-a", "-u", "carol", "-r", "north.gov", "-p", "x")
	coturn("-d", "-u", "carol", "-r", "north.gov")
	coturn("-s", "old", "-r", "north.gov")
	coturn("-s", "new", "-r", "north.gov")
	coturn("-s", "gone", "-r", "north.gov")
	coturn("-X", "gone", "-r", "north.gov")
	coturn("-O", "-o", "HTTPS://Example.org", "-r", "north.gov")
	coturn("-g", "-r", "north.gov", "--max-bps", "1000", "--total-quota", "5", "--user-quota", "2")
	coturn("-A", "-u", "root", "-p", "admin", "-r", "north.gov")

	a, ctx := serve(db), t.Context()
	for user, want := range map[string]bool{"alice wonder": true, "alice x": false, "bob second": true, "bob first": false, "carol x": false} {
		user, password, _ := strings.Cut(user, " ")
		_, err := relay(t, a, "north.gov", user, password)
		require.Equal(t, want, err == nil, "%s %s: %v", user, password, err)
	}
	secrets, err := db.Secrets(ctx, "north.gov")
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"old", "new"}, secrets)
	realm, err := db.RealmOf(ctx, "https://example.org:443")
	require.NoError(t, err)
	require.Equal(t, "north.gov", realm)
	options, err := db.RealmOptions(ctx, "north.gov")
	require.NoError(t, err)
	require.Equal(t, auth.RealmOptions{BitRate: 8000, TotalQuota: 5, UserQuota: 2}, options)
	for r, err := range db.Rows(ctx, turnauth.AdminTable, "north.gov") {
		require.NoError(t, err)
		require.Equal(t, "root", r.Name)
		require.True(t, turnauth.CheckAdminPassword(r.Value, "admin"))
	}
	require.Equal(t, "alice[north.gov]\nbob[north.gov]\n", ourAdmin(t, dsn, "-l"))
	require.Equal(t, "max-bps[north.gov]=1000\ntotal-quota[north.gov]=5\nuser-quota[north.gov]=2\n", ourAdmin(t, dsn, "-G"))
}

// testOurs: examples/turnadmin makes the tables, does what it says, and
// coturn's turnadmin reads it.
func testOurs(t *testing.T, s server) {
	dsn, flag, name := s.fresh(t)
	ours := func(args ...string) string { t.Helper(); return ourAdmin(t, dsn, args...) }
	ours("--create")
	ours("-a", "-u", "alice", "-r", "north.gov", "-p", "first")
	ours("--add", "--user", "alice", "--realm", "north.gov", "--password", "second")
	ours("-a", "-u", "bob", "-r", "crinna.org", "-p", "x")
	ours("-a", "-u", "carol", "-r", "crinna.org", "-p", "x")
	ours("-d", "-u", "carol", "-r", "crinna.org")
	for _, secret := range []string{"one", "two", "two"} {
		ours("-s", secret, "-r", "north.gov")
	}
	ours("-s", "three", "-r", "crinna.org")
	ours("-s", "four", "-r", "crinna.org")
	ours("-X", "one", "-r", "north.gov")
	ours("--delete-all-secrets", "-r", "crinna.org")
	ours("-O", "-o", "https://Example.org", "-r", "north.gov")
	ours("-O", "-o", "https://example.net", "-r", "north.gov")
	ours("-R", "-o", "https://EXAMPLE.net:443")
	ours("-g", "-r", "north.gov", "--max-bps", "1000", "--total-quota", "5", "--user-quota", "2")
	ours("-g", "-r", "north.gov", "--user-quota", "0", "--total-quota", "7")
	ours("--deny-peer", "10.0.0.0/8")
	ours("--deny-peer", "2001:db8::-2001:db8::ff", "-r", "north.gov")
	ours("--deny-peer", "192.0.2.1")
	ours("--delete-deny-peer", "192.0.2.1/32")
	ours("--allow-peer", "10.1.2.3", "-r", "crinna.org")
	made := strings.TrimSpace(ours("--add-oauth-key", "north", "-r", "north.gov", "--oauth-lifetime", "3600"))
	ours("--add-oauth-key", "union", "--oauth-key", "MTIzNDU2Nzg5MDEyMzQ1Ngo=", "--oauth-alg", "A128GCM")
	ours("--add-oauth-key", "gone")
	ours("--delete-oauth-key", "gone")
	ours("-A", "-u", "root", "-p", "admin", "-r", "north.gov")
	ours("-A", "-u", "all", "-p", "admin")
	ours("-A", "-u", "gone", "-p", "admin")
	ours("-D", "-u", "gone")

	require.Equal(t, "bob[crinna.org]\nalice[north.gov]\n", ours("-l"))
	require.Equal(t, "alice[north.gov]\n", ours("-l", "-r", "north.gov"))
	require.Equal(t, "two[north.gov]\n", ours("-S"))
	require.Equal(t, "https://example.org:443 ==>> north.gov\n", ours("-I"))
	require.Equal(t, "max-bps[north.gov]=1000\ntotal-quota[north.gov]=7\n", ours("-G"))
	require.Equal(t, "allow:\n10.1.2.3[crinna.org]\ndeny:\n10.0.0.0-10.255.255.255\n2001:db8::-2001:db8::ff[north.gov]\n", ours("--list-peers"))
	require.Equal(t, "all\nroot[north.gov]\n", ours("-L"))
	keys := ours("--list-oauth-keys")
	require.Contains(t, keys, "union A128GCM\n")
	require.Contains(t, keys, "north A256GCM [north.gov] until ")
	require.NotContains(t, keys, made)

	db := open(t, dsn)
	ctx := t.Context()
	_, err := relay(t, serve(db), "north.gov", "alice", "second")
	require.NoError(t, err)
	rules, err := db.PeerRules(ctx, "north.gov")
	require.NoError(t, err)
	require.Empty(t, rules.Allow)
	require.ElementsMatch(t, []string{"10.0.0.0-10.255.255.255", "2001:db8::-2001:db8::ff"}, ranges(rules.Deny))
	key, err := db.OAuthKey(ctx, "north")
	require.NoError(t, err)
	require.Equal(t, made, base64.StdEncoding.EncodeToString(key.Secret))
	require.WithinDuration(t, time.Now(), key.Issued, time.Minute)
	require.Equal(t, time.Hour, key.Lifetime)

	// A password need not be among the arguments; what is not there is said.
	program := lab.Program(t, turnadmin)
	for _, args := range [][]string{{"-d", "-u", "nobody", "-r", "north.gov"}, {"-a", "-u", "x"}, {"-l", "-S"}, {"-X", "nothing", "-r", "north.gov"},
		{"--deny-peer", "nowhere"}, {"-g", "-r", "north.gov", "--max-bps", "lots"}, {"-D", "-u", "nobody"}, {"-R", "-o", "http://x"}, {}} {
		_, log, err := peer.Try(t, 20*time.Second, program, append([]string{"-db", dsn}, args...)...)
		require.Error(t, err, "%q", args)
		require.NotEmpty(t, log)
		require.NotContains(t, log, password)
	}

	// coturn's flags for a database mean the same.
	require.Equal(t, "two[north.gov]\n", string(peer.Run(t, 20*time.Second, program, flag, name, "-S")))

	peer.Need(t, "turnadmin")
	coturn := func(args ...string) string { return coturnAdmin(t, flag, name, args...) }
	require.Contains(t, coturn("-l", "-r", "north.gov"), "alice")
	require.Contains(t, coturn("-S", "-r", "north.gov"), "two")
	require.NotContains(t, coturn("-S", "-r", "north.gov"), "one")
	require.Contains(t, coturn("-I"), "https://example.org:443 ==>> north.gov")
	options := coturn("-G", "-r", "north.gov")
	require.Regexp(t, `max-bps.*1000`, options)
	require.Regexp(t, `total-quota.*7`, options)
	require.NotContains(t, options, "user-quota")
	require.Contains(t, coturn("-L"), "root")
}

// hostile are names that must be nothing but names, whatever reads them.
var hostile = []string{
	`al'ice`, `al"ice`, "al`ice`", `al\'ice`, `'; DROP TABLE turnusers_lt; --`, `' OR '1'='1`, `" OR ""="`, `a\`, `\`, `%`, `_`, `%s%n%x`, `$1`, `?`, `:name`, `@a`,
	`*`, `a*`, `[a-z]*`, `a?c`, `a[b]c`, `{a,b}`, `a/key`, `../../x`, `a b`, ` a`, `a `, "a\nb", "a\r\nDEL x\r\n", "a\tb", "a\x01b", `$(reboot)`, `${HOME}`, `{{.}}`,
	`<script>`, `ünï©ødé`, `用户`, `🙂`, `a;b`, `a--b`, `/* a */`, `NULL`, `0`, `ALICE`, `alice`, `alicE`, strings.Repeat("x", 120),
}

// testHostile puts every hostile name into every sink, with all the others
// there: each must find its own row and no other.
func testHostile(t *testing.T, s server) {
	dsn, _, _ := s.fresh(t)
	db := open(t, dsn)
	if d, ok := db.(*sqlauth.DB); ok {
		require.NoError(t, d.Create(t.Context()))
	}
	ctx := t.Context()
	keyOf := func(realm, name string) string { return hex.EncodeToString(turnauth.Key(name, realm, "p")) }
	for _, name := range hostile {
		for _, realm := range []string{"r", name} {
			require.NoError(t, db.Put(ctx, turnauth.UserTable, turnauth.Row{Realm: realm, Name: name, Value: keyOf(realm, name)}), "%q", name)
			require.NoError(t, db.Put(ctx, turnauth.SecretTable, turnauth.Row{Realm: realm, Name: name}), "%q", name)
		}
		require.NoError(t, db.Put(ctx, turnauth.OptionTable, turnauth.Row{Realm: name, Name: turnauth.MaxBPS, Value: "5"}), "%q", name)
		require.NoError(t, db.Put(ctx, turnauth.DenyTable, turnauth.Row{Realm: name, Name: "192.0.2.7"}), "%q", name)
		require.NoError(t, db.Put(ctx, turnauth.OriginTable, turnauth.Row{Realm: name, Name: name}), "%q", name)
		if len(name) <= 32 {
			require.NoError(t, db.Put(ctx, turnauth.AdminTable, turnauth.Row{Realm: name, Name: name, Value: turnauth.AdminPassword("p")}), "%q", name)
		}
		require.NoError(t, db.PutOAuthKey(ctx, &turnauth.OAuthKey{ID: name, Secret: make([]byte, 32), Realm: name}), "%q", name)
	}
	check := func(names []string) {
		t.Helper()
		a := serve(db)
		for _, name := range names {
			for _, realm := range []string{"r", name} {
				g, err := relay(t, a, realm, name, "p")
				require.NoError(t, err, "%q in %q", name, realm)
				require.Equal(t, name, g.User)
			}
			secrets, err := db.Secrets(ctx, name)
			require.NoError(t, err)
			require.Equal(t, []string{name}, secrets)
			realm, err := db.RealmOf(ctx, name)
			require.NoError(t, err)
			require.Equal(t, name, realm)
			options, err := db.RealmOptions(ctx, name)
			require.NoError(t, err)
			require.EqualValues(t, 40, options.BitRate, "%q", name)
			rules, err := db.PeerRules(ctx, name)
			require.NoError(t, err)
			require.Equal(t, []string{"192.0.2.7"}, ranges(rules.Deny), "%q", name)
			key, err := db.OAuthKey(ctx, name)
			require.NoError(t, err)
			require.Equal(t, []string{name, name}, []string{key.ID, key.Realm})
			require.Equal(t, []string{name}, rowNames(t, db, turnauth.UserTable, name))
			require.Equal(t, []string{name}, rowNames(t, db, turnauth.SecretTable, name))
			require.Equal(t, []string{turnauth.MaxBPS}, rowNames(t, db, turnauth.OptionTable, name))
			require.Equal(t, []string{name}, rowNames(t, db, turnauth.OriginTable, name))
		}
		require.ElementsMatch(t, names, rowNames(t, db, turnauth.UserTable, "r"))
		var listed []string
		for name, err := range db.Names(ctx, "r") {
			require.NoError(t, err)
			listed = append(listed, name)
		}
		require.ElementsMatch(t, names, listed)
		require.Len(t, rowNames(t, db, turnauth.UserTable, ""), 2*len(names))
		require.Len(t, rowNames(t, db, turnauth.DenyTable, ""), len(names))
		require.Len(t, rowNames(t, db, turnauth.OptionTable, ""), len(names))
		ids := 0
		for k, err := range db.OAuthKeys(ctx) {
			require.NoError(t, err)
			require.NoError(t, k.Check())
			ids++
		}
		require.Equal(t, len(names), ids)
	}
	check(hostile)

	// Names that nobody has find nothing, and are no failure.
	a := serve(db)
	for _, name := range append([]string{"nobody", "r", "", "\x00", "\xff\xfe", strings.Repeat("x", 600), strings.Repeat("é", 300)}, hostile...) {
		_, err := relay(t, a, "r", name+"-x", "p")
		require.ErrorIs(t, err, auth.ErrDenied, "%q", name)
		_, err = relay(t, a, name+"-x", "alice", "p")
		require.ErrorIs(t, err, auth.ErrDenied, "%q", name)
	}
	// Deleting one deletes one.
	left := slices.Clone(hostile)
	for len(left) > 30 {
		name := left[0]
		left = left[1:]
		for _, realm := range []string{"r", name} {
			require.NoError(t, db.Delete(ctx, turnauth.UserTable, turnauth.Row{Realm: realm, Name: name}))
			require.ErrorIs(t, db.Delete(ctx, turnauth.UserTable, turnauth.Row{Realm: realm, Name: name}), turnauth.ErrUnknown)
			require.NoError(t, db.Delete(ctx, turnauth.SecretTable, turnauth.Row{Realm: realm, Name: name}))
		}
		require.NoError(t, db.Delete(ctx, turnauth.OptionTable, turnauth.Row{Realm: name, Name: turnauth.MaxBPS}))
		require.ErrorIs(t, db.Delete(ctx, turnauth.OptionTable, turnauth.Row{Realm: name, Name: "secret"}), turnauth.ErrUnknown)
		require.NoError(t, db.Delete(ctx, turnauth.DenyTable, turnauth.Row{Realm: name, Name: "192.0.2.7"}))
		require.NoError(t, db.Delete(ctx, turnauth.OriginTable, turnauth.Row{Name: name}))
		require.NoError(t, db.DeleteOAuthKey(ctx, name))
		require.ErrorIs(t, db.DeleteOAuthKey(ctx, name), turnauth.ErrUnknown)
	}
	check(left)
	// A line is a row, whatever is in it.
	require.Len(t, strings.Split(strings.TrimSpace(ourAdmin(t, dsn, "-l", "-r", "r")), "\n"), len(left))

	for _, table := range []turnauth.Table{-1, 7, 99} {
		require.Error(t, db.Put(ctx, table, turnauth.Row{Realm: "r", Name: "x"}))
		require.Error(t, db.Delete(ctx, table, turnauth.Row{Realm: "r", Name: "x"}))
		for _, err := range db.Rows(ctx, table, "") {
			require.Error(t, err)
		}
	}
}

func rowNames(t *testing.T, db editor, table turnauth.Table, realm string) (names []string) {
	t.Helper()
	for r, err := range db.Rows(t.Context(), table, realm) {
		require.NoError(t, err)
		names = append(names, r.Name)
	}
	return names
}

// testBroken: what somebody wrote by hand and wrongly refuses rather than
// opens, and is no right to others.
func testBroken(t *testing.T, s server) {
	dsn, _, _ := s.fresh(t)
	db := open(t, dsn)
	ctx := t.Context()
	switch d := db.(type) {
	case *redisauth.DB:
		for key, value := range map[string]string{"user/alice/key": "secret", "max-bps": "lots"} {
			require.NoError(t, d.Client.Set(ctx, "turn/realm/r/"+key, value, 0).Err())
		}
		require.NoError(t, d.Client.SAdd(ctx, "turn/realm/r/denied-peer-ip", "10.0.0.0/99").Err())
		require.NoError(t, d.Client.HSet(ctx, "turn/oauth/kid/k", "ikm_key", "%%%").Err())
		require.NoError(t, d.Client.HSet(ctx, "turn/oauth/kid/l", "lifetime", "soon").Err())
		_, err := d.OAuthKey(ctx, "l")
		require.Error(t, err)
		require.Error(t, d.Put(ctx, turnauth.UserTable, turnauth.Row{Realm: "a/user/b", Name: "c", Value: strings.Repeat("0", 32)}))
	case *sqlauth.DB:
		require.Error(t, d.Ping(ctx), "no tables yet")
		require.NoError(t, d.Create(ctx))
		require.NoError(t, d.Create(ctx), "again")
		require.NoError(t, d.Ping(ctx))
		execSQL(t, d, "INSERT INTO turnusers_lt VALUES ('r', 'alice', 'secret')", "INSERT INTO turnusers_lt VALUES ('r', 'bob', NULL)",
			"INSERT INTO turn_realm_option VALUES ('r', 'max-bps', 'lots')", "INSERT INTO denied_peer_ip VALUES ('r', '10.0.0.0/99')",
			"INSERT INTO oauth_key (kid, ikm_key) VALUES ('k', '%%%')", "INSERT INTO oauth_key (kid, ikm_key, timestamp, lifetime, as_rs_alg, realm) VALUES ('n', NULL, NULL, NULL, NULL, NULL)")
		_, err := relay(t, serve(db), "r", "bob", "")
		require.Error(t, err)
	}
	_, err := relay(t, serve(db), "r", "alice", "secret")
	require.Error(t, err)
	require.NotErrorIs(t, err, auth.ErrDenied, "somebody is to hear of it")
	require.NotContains(t, err.Error(), "secret")
	_, err = db.RealmOptions(ctx, "r")
	require.Error(t, err)
	_, err = db.PeerRules(ctx, "r")
	require.Error(t, err)
	key, err := db.OAuthKey(ctx, "k")
	require.NoError(t, err)
	require.Error(t, key.Check())
}

// testDown: a database that is down refuses who is new, soon and in other
// words than a refusal; who was seen lately may come back.
func testDown(t *testing.T, s server) {
	dsn, _, _ := s.fresh(t)
	db := open(t, dsn)
	if d, ok := db.(*sqlauth.DB); ok {
		require.NoError(t, d.Create(t.Context()))
	}
	for _, user := range []string{"alice", "bob"} {
		require.NoError(t, db.Put(t.Context(), turnauth.UserTable, turnauth.Row{Realm: "r", Name: user, Value: hex.EncodeToString(turnauth.Key(user, "r", "p"))}))
	}
	cache := &turnauth.Cache{Store: db, Timeout: 3 * time.Second}
	a := &turnauth.Stored{Store: cache}
	_, err := relay(t, a, "r", "alice", "p")
	require.NoError(t, err)
	if s.stop == nil {
		require.NoError(t, db.Close())
	} else {
		s.stop()
	}
	_, err = relay(t, a, "r", "alice", "p")
	require.NoError(t, err)
	began := time.Now()
	for _, user := range []string{"bob", "nobody"} {
		_, err = relay(t, a, "r", user, "p")
		require.Error(t, err)
		require.NotErrorIs(t, err, auth.ErrDenied)
		for _, secret := range []string{password, "p%40ss"} {
			require.NotContains(t, err.Error(), secret)
		}
	}
	_, err = cache.PeerRules(t.Context(), "r")
	require.Error(t, err)
	_, err = cache.RealmOf(t.Context(), "http://x")
	require.Error(t, err)
	require.Less(t, time.Since(began), 20*time.Second, "each question has a timeout")
	cache.Flush()
	_, err = relay(t, a, "r", "alice", "p")
	require.Error(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.Error(t, db.Ping(ctx))
}
