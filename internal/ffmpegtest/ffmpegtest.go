// Package ffmpegtest runs ffmpeg and ffprobe for the tests of packages that read and
// write files.
package ffmpegtest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Need skips a test where ffmpeg or ffprobe is absent; with RUNNEL_E2E=1 it fails.
func Need(t testing.TB) {
	t.Helper()
	for _, tool := range []string{"ffmpeg", "ffprobe"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("RUNNEL_E2E") == "1" {
				t.Fatal(err)
			}
			t.Skip("needs ffmpeg and ffprobe:", err)
		}
	}
}

// Encode makes a file. The options are those between ffmpeg's own and its name.
func Encode(t testing.TB, file, options string, more ...string) {
	t.Helper()
	run(t, "ffmpeg", append(append(strings.Fields("-nostdin -v error -y "+options), more...), file))
}

// Decode decodes a file, and returns what ffmpeg writes to either output: complaints,
// and what the arguments behind the input ask for, such as hashes.
func Decode(t testing.TB, file string, output ...string) string {
	t.Helper()
	return run(t, "ffmpeg", append([]string{"-nostdin", "-v", "warning", "-i", file}, output...))
}

// Probe returns what ffprobe says of a file.
func Probe(t testing.TB, file string, args ...string) string {
	t.Helper()
	return run(t, "ffprobe", append(append([]string{"-v", "error"}, args...), file))
}

func run(t testing.TB, tool string, args []string) string {
	t.Helper()
	out, err := exec.Command(tool, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", tool, strings.Join(args, " "), err, out)
	}
	return string(out)
}
