package transcode

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// FFmpeg is the program that does the work, version 5.1 or later, and what a run of it
// may take. It is given its input through a pipe where that is a stream, nothing of this
// process's environment, no shell, no file that it could write, and no protocol beyond
// those that its input needs. The zero value is the ffmpeg of PATH.
type FFmpeg struct {
	Path   string   // "": "ffmpeg"
	Env    []string // all of its environment, as "NAME=value", such as what a driver wants to know
	Limits Limits
	User   *User // whom it runs as; nil: as this process

	// Input are further options before the input, such as "-hwaccel".
	Input []string

	// Stall is how long it may go without reading or making anything before it is
	// killed. 0: 10 s.
	Stall time.Duration
}

func (f *FFmpeg) stall() time.Duration { return cmp.Or(f.Stall, 10*time.Second) }

// command returns a run with these arguments, after those that all runs have.
func (f *FFmpeg) command(args ...string) *command {
	return &command{
		path:   cmp.Or(f.Path, "ffmpeg"),
		args:   append([]string{"-hide_banner", "-nostdin", "-nostats", "-loglevel", "warning"}, args...),
		env:    f.Env,
		limits: f.Limits,
		user:   f.User,
	}
}

// fed returns the arguments for an input that comes through a pipe.
func (f *FFmpeg) fed(in *feed) []string {
	// Begin with the first picture, which says what it is: looking at more only takes
	// time. Sound comes behind it.
	size, look := "32", "0" // bytes, µs
	if in.audio != nil {
		size, look = "5000000", "200000"
	}
	args := []string{
		"-protocol_whitelist", "pipe",
		"-probesize", size, "-analyzeduration", look, "-fpsprobesize", "0",
		// By slices, not by frames, of which each thread would hold one back.
		"-thread_type", "slice",
		"-copyts",
	}
	args = append(args, f.Input...)
	return append(args, "-f", in.format(), "-i", "pipe:0")
}

// pipeName is ffmpeg's name of the i-th pipe that a process writes to.
func pipeName(i int) string {
	if i == 0 {
		return "pipe:1"
	}
	return fmt.Sprintf("pipe:%d", 2+i)
}

// word says whether s can be an argument that is neither an option nor anything that
// ffmpeg's own little languages would take apart.
func word(s string) bool {
	return s != "" && s[0] != '-' && s[0] != '.' && !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-", r))
	})
}

// within reports whether an option is among arguments.
func within(args []string, option string) bool { return slices.Contains(args, option) }
