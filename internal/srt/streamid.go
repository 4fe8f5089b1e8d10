package srt

import "strings"

// A StreamID is what the caller of a connection wants, as its stream id says
// (SRT Access Control, and what SRS understands beside).
type StreamID struct {
	Publish  bool
	Resource string // "app/name", or "name"
	Host     string // "" is the default virtual host
	User     string // u
	Session  string // s: a token
	Query    string // what the keys say that are not SRT's own, as "k=v&…"
	Bad      bool   // it makes no sense: another mode, no resource, a malformed list
}

// ParseStreamID reads a stream id:
//
//	#!::r=live/name,m=publish,u=me,s=token,h=host,k=v
//	#!::h=live/name,m=publish    as SRS's old form has it: a host with a slash is the resource
//	live/name                    plays
//	live/name?k=v                likewise
//
// The mode is to play, unless it says publish. In a list "?" stands for a
// comma too, and "#!::{" begins the same list with a closing brace.
func ParseStreamID(s string) (id StreamID) {
	list, ok := strings.CutPrefix(s, "#!::")
	if !ok {
		id.Resource, id.Query, _ = strings.Cut(s, "?")
		id.Resource = strings.Trim(id.Resource, "/")
		id.Bad = id.Resource == "" || strings.HasPrefix(s, "#!")
		return id
	}
	if inner, ok := strings.CutPrefix(list, "{"); ok {
		if list, ok = strings.CutSuffix(inner, "}"); !ok {
			id.Bad = true
			return id
		}
	}
	var query []string
	for entry := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' || r == '?' || r == '&' }) {
		key, value, ok := strings.Cut(strings.TrimSpace(entry), "=")
		if !ok || key == "" {
			id.Bad = true
			return id
		}
		switch key {
		case "r":
			id.Resource = strings.Trim(value, "/")
		case "h":
			id.Host = value
		case "u":
			id.User = value
		case "s":
			id.Session = value
		case "m":
			switch value {
			case "publish":
				id.Publish = true
			case "request", "play":
				id.Publish = false
			default: // bidirectional, too
				id.Bad = true
			}
		case "t": // what is sent: stream, file, auth
			id.Bad = id.Bad || value != "stream" && value != ""
		default:
			query = append(query, entry)
		}
	}
	if id.Resource == "" && strings.Contains(id.Host, "/") {
		id.Resource, id.Host = strings.Trim(id.Host, "/"), ""
	}
	id.Query = strings.Join(query, "&")
	id.Bad = id.Bad || id.Resource == ""
	return id
}
