package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseConf(t *testing.T) {
	root, err := parseConf("srs.conf", `
# a comment; with { things }
listen              1935 19350;
srs_log_file "./a b.log";   # behind it
vhost __defaultVhost__ {
    hls { enabled on; hls_path './objs'; }
    http_hooks {
        enabled on;
        on_publish http://127.0.0.1:8085/api/v1/streams#x http://localhost/;
    }
}
empty { }`)
	require.NoError(t, err)
	require.Equal(t, []string{"1935", "19350"}, root.find("listen").args)
	require.Equal(t, []string{"./a b.log"}, root.find("srs_log_file").args)
	vhost := root.child("vhost")
	require.Equal(t, []string{"__defaultVhost__"}, vhost.args)
	require.Equal(t, "srs.conf:6", vhost.find("hls.hls_path").at())
	require.Equal(t, []string{"./objs"}, vhost.find("hls.hls_path").args)
	require.Equal(t, []string{"http://127.0.0.1:8085/api/v1/streams#x", "http://localhost/"}, vhost.find("http_hooks.on_publish").args)
	require.NotNil(t, root.find("empty"))
	require.Nil(t, root.find("empty.nothing"))
	require.Nil(t, (*directive)(nil).find("x"))
}

func TestParseConfErrors(t *testing.T) {
	for text, want := range map[string]string{
		"listen 1935":                         `c:1: no semicolon after "listen"`,
		"a;\n\n}":                             "c:3: } without {",
		"a {\n b;\n":                          "c:1: a { is never closed",
		"a { b }":                             `c:1: no semicolon after "b"`,
		"\n;":                                 "c:2: a semicolon after nothing",
		"{":                                   "c:1: { without a name before it",
		"a 'b;\n":                             "c:1: a quote is never closed",
		strings.Repeat("a {", 20):             "c:1: braces in braces, 9 deep",
		"a " + strings.Repeat("b ", 64) + ";": "c:1: more than 64 words before a semicolon",
		strings.Repeat(" ", maxConfBytes+1):   "c: more than 1048576 bytes",
	} {
		_, err := parseConf("c", text)
		require.EqualError(t, err, want)
	}
}

func TestInclude(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	main := write("main.conf", "listen 1;\nvhost a { include hls.conf; }\n")
	write("hls.conf", "hls { enabled on; }")
	root, err := readConf(main)
	require.NoError(t, err)
	require.Equal(t, []string{"on"}, root.child("vhost").find("hls.enabled").args)
	_, err = readConf(write("loop.conf", "include loop.conf;"))
	require.ErrorContains(t, err, "more than 32 files")
	_, err = readConf(write("none.conf", "\ninclude nothing.conf;"))
	require.ErrorContains(t, err, "none.conf:2:")
	_, err = readConf(filepath.Join(dir, "nothing"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// FuzzConf: any text is read or refused, and what is read can be made settings of
// or not, without a panic.
func FuzzConf(f *testing.F) {
	f.Add("listen 1935;\nvhost __defaultVhost__ { hls { enabled on; } }")
	f.Add("vhost a b { http_remux { enabled on; mount [vhost]/[app]/[stream].flv; } security { enabled on; deny play 1.2.3.4; } }")
	f.Add("a{b{c 'd' \"e\";}}#x")
	f.Fuzz(func(t *testing.T, text string) {
		root, err := parseConf("c", text)
		if err != nil {
			return
		}
		_, _ = newSettings(root, nil)
	})
}
