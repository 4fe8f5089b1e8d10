package record

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// DefaultName is the template of a Recorder that has none.
const DefaultName = "{stream}/{start:2006-01-02T15-04-05}"

// A template makes names of recordings: text with words in braces.
type template []word

type word struct {
	text string // literal if variable is 0
	variable
	layout string
}

type variable uint8

const (
	varStream variable = iota + 1
	varApp
	varName
	varStart
	varSegment
	varSession
	varUnix
)

var variables = map[string]variable{
	"stream": varStream, "app": varApp, "name": varName, "start": varStart, "segment": varSegment, "session": varSession,
	"unix": varUnix,
}

var errTemplate = errors.New("record: bad name template")

// parseTemplate reads a template. What it may make is checked when it has been made.
func parseTemplate(s string) (template, error) {
	var t template
	for s != "" {
		before, rest, found := strings.Cut(s, "{")
		if strings.Contains(before, "}") {
			return nil, fmt.Errorf("%w: } without {", errTemplate)
		}
		if before != "" {
			t = append(t, word{text: before})
		}
		if !found {
			break
		}
		inside, after, found := strings.Cut(rest, "}")
		if !found {
			return nil, fmt.Errorf("%w: { without }", errTemplate)
		}
		name, layout, _ := strings.Cut(inside, ":")
		v := variables[name]
		if v == 0 {
			return nil, fmt.Errorf("%w: unknown word {%s}", errTemplate, inside)
		}
		if layout != "" && v != varStart && v != varSegment {
			return nil, fmt.Errorf("%w: {%s} takes no layout", errTemplate, name)
		}
		t = append(t, word{variable: v, layout: layout})
		s = after
	}
	probe := Info{Stream: "app/name", Session: "session", Start: time.Unix(0, 0)}
	if _, err := t.expand(&probe, time.UTC); err != nil {
		return nil, fmt.Errorf("%w: %w", errTemplate, err)
	}
	return t, nil
}

// expand makes a name. It is one that every storage takes, or an error that wraps
// stream.ErrName: nothing in a stream's name, which peers choose, can lead
// elsewhere.
func (t template) expand(info *Info, zone *time.Location) (string, error) {
	var b strings.Builder
	for _, w := range t {
		switch w.variable {
		case 0:
			b.WriteString(w.text)
		case varStream:
			b.WriteString(info.Stream)
		case varApp:
			if dir := path.Dir(info.Stream); dir != "." {
				b.WriteString(dir)
			}
		case varName:
			b.WriteString(path.Base(info.Stream))
		case varStart:
			layout := w.layout
			if layout == "" {
				layout = "2006-01-02T15-04-05"
			}
			b.WriteString(strings.ReplaceAll(info.Start.In(zone).Format(layout), ":", "-"))
		case varSegment:
			digits, _ := strconv.Atoi(w.layout)
			fmt.Fprintf(&b, "%0*d", min(max(digits, 0), 9), info.Segment)
		case varUnix:
			b.WriteString(strconv.FormatInt(info.Start.UnixMilli(), 10))
		case varSession:
			b.WriteString(info.Session)
		}
	}
	// A stream without an app leaves an empty segment.
	var segments []string
	for s := range strings.SplitSeq(b.String(), "/") {
		if s != "" {
			segments = append(segments, s)
		}
	}
	name := strings.Join(segments, "/")
	return name, stream.CheckStorageName(name)
}

// Pattern returns a function, for Recorder.Match, that reports whether a stream's
// name fits one of the patterns, which are those of path.Match with "*" for one
// segment, and "**" at the end for any number of them: "live/*", "**". A bad
// pattern is an error.
func Pattern(patterns ...string) (func(streamName string) bool, error) {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return nil, fmt.Errorf("record: pattern %q: %w", p, err)
		}
	}
	return func(name string) bool {
		for _, p := range patterns {
			if fits(p, name) {
				return true
			}
		}
		return false
	}, nil
}

func fits(pattern, name string) bool {
	head, deep := strings.CutSuffix(pattern, "**")
	if !deep {
		ok, _ := path.Match(pattern, name)
		return ok
	}
	// As many segments as the pattern has before its end.
	n := strings.Count(head, "/")
	segments := strings.Split(name, "/")
	if len(segments) <= n {
		return false
	}
	ok, _ := path.Match(strings.TrimSuffix(head, "/"), strings.Join(segments[:n], "/"))
	return ok
}
