package turndb

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth/redisauth"
	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// coturnFile is a file of Debian's package coturn.
func coturnFile(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("/usr/share/coturn", name)
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		peer.Need(t, path)
	}
	require.NoError(t, err)
	return string(b)
}

// sampleSQL runs coturn's own schema and sample, word for word.
func sampleSQL(t *testing.T, db editor) {
	for _, file := range []string{"schema.sql", "testsqldbsetup.sql"} {
		execSQL(t, db, strings.Split(coturnFile(t, file), ";")...)
	}
}

// sampleRedis sends the commands of coturn's own script.
func sampleRedis(t *testing.T, db editor) {
	client := db.(*redisauth.DB).Client
	word := regexp.MustCompile(`'[^']*'|"[^"]*"|\S+`)
	for line := range strings.Lines(coturnFile(t, "testredisdbsetup.sh")) {
		var args []any
		for _, w := range word.FindAllString(line, -1) {
			args = append(args, strings.ReplaceAll(strings.Trim(w, `'"`), `\$`, `$`))
		}
		if len(args) < 3 || args[0] != "set" && args[0] != "sadd" && args[0] != "hmset" {
			continue
		}
		require.NoError(t, client.Do(t.Context(), args...).Err(), line)
	}
}

// coturnAdmin runs coturn's turnadmin, and returns what it prints.
func coturnAdmin(t *testing.T, flag, db string, args ...string) string {
	t.Helper()
	out, log, err := peer.Try(t, 20*time.Second, "turnadmin", append([]string{flag, db}, args...)...)
	all := string(out) + log
	// It leaves a log file behind, whether one wants it or not.
	for _, m := range regexp.MustCompile(`log file opened: (\S+)`).FindAllStringSubmatch(all, -1) {
		os.Remove(m[1])
	}
	require.NoError(t, err, all)
	require.NotContains(t, all, "ERROR", "%q", args)
	return string(out)
}

// turnadmin is our program.
const turnadmin = "github.com/runnel-media/runnel/examples/turnadmin"

// ourAdmin runs examples/turnadmin.
func ourAdmin(t *testing.T, dsn string, args ...string) string {
	t.Helper()
	return string(peer.Run(t, 20*time.Second, lab.Program(t, turnadmin), append([]string{"-db", dsn}, args...)...))
}
