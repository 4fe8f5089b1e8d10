// Package hlscheck says what is wrong with HLS playlists: each by itself, one
// after the other as a player sees them when it reloads, and next to their
// siblings. It looks at the text alone, so that it can judge any server.
//
// The rules are those of RFC 8216bis, draft-pantos-hls-rfc8216bis-22 (the
// sections named in the errors), which holds what Apple asks of low-latency
// playlists too, in part by its appendix B. A rule that the draft gives as SHOULD is an error here as well
// unless its comment says otherwise: it is our own servers that are checked.
package hlscheck

import "fmt"

// A Problem is a rule that a playlist breaks.
type Problem struct {
	Section string // of draft-pantos-hls-rfc8216bis
	Rule    string
	Detail  string // what was found
	Line    int    // in the playlist, from 1; 0: no single one
}

func (p *Problem) Error() string {
	at := ""
	if p.Line > 0 {
		at = fmt.Sprintf("line %d: ", p.Line)
	}
	return fmt.Sprintf("%s%s: %s (bis %s)", at, p.Rule, p.Detail, p.Section)
}

// problems collects what is found.
type problems struct{ list []error }

func (p *problems) add(section, rule string, line int, detail string, args ...any) {
	p.list = append(p.list, &Problem{Section: section, Rule: rule, Line: line, Detail: fmt.Sprintf(detail, args...)})
}
