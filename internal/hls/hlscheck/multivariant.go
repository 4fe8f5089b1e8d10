package hlscheck

import "strings"

// A Variant is EXT-X-STREAM-INF with its URI.
type Variant struct {
	URI        string
	Attributes map[string]string // quotes taken off
}

// Multivariant checks a multivariant playlist, and returns its variants and the
// attributes of its EXT-X-MEDIA tags.
func Multivariant(text []byte) (variants []Variant, media []map[string]string, found []error) {
	var f problems
	all := lines(text)
	if len(all) == 0 || all[0] != "#EXTM3U" {
		f.add("4.4.1.1", "a playlist begins with #EXTM3U", 1, "it does not")
		return nil, nil, f.list
	}
	once := map[string]bool{}
	var open map[string]string // attributes of an EXT-X-STREAM-INF that waits for its URI
	for i, line := range all[1:] {
		n := i + 2
		if line == "" || line[0] == '#' && !strings.HasPrefix(line, "#EXT") {
			continue
		}
		if open != nil && line[0] == '#' {
			f.add("4.4.6.2", "the URI follows EXT-X-STREAM-INF", n, "%s", line)
		}
		if line[0] != '#' {
			if open == nil {
				f.add("4.4.6.2", "a URI follows EXT-X-STREAM-INF", n, "%s does not", line)
				continue
			}
			variants = append(variants, Variant{URI: line, Attributes: open})
			open = nil
			continue
		}
		tag, value, _ := strings.Cut(line[1:], ":")
		switch tag {
		case "EXT-X-VERSION", "EXT-X-INDEPENDENT-SEGMENTS", "EXT-X-START":
			if once[tag] {
				f.add("4.4.2", "the tag comes once", n, "%s again", tag)
			}
			once[tag] = true
		case "EXT-X-STREAM-INF", "EXT-X-MEDIA":
			a, quoted, err := attributes(value)
			if err != nil {
				f.add("4.2", "attribute values have their syntax", n, "%v", err)
				continue
			}
			if tag == "EXT-X-MEDIA" {
				media = append(media, a)
				f.media(n, a, quoted)
				continue
			}
			f.variant(n, a, quoted)
			open = a
		case "EXTINF", "EXT-X-TARGETDURATION", "EXT-X-MEDIA-SEQUENCE", "EXT-X-PART", "EXT-X-PART-INF", "EXT-X-MAP", "EXT-X-KEY",
			"EXT-X-ENDLIST", "EXT-X-SERVER-CONTROL", "EXT-X-DISCONTINUITY", "EXT-X-PROGRAM-DATE-TIME":
			f.add("4.4.6", "a multivariant playlist has no media playlist tags", n, "%s", tag)
		}
	}
	if len(variants) == 0 {
		f.add("4.4.6.2", "there is a variant", 0, "there is none")
	}
	f.groups(variants, media)
	return variants, media, f.list
}

func (f *problems) variant(line int, a map[string]string, quoted map[string]bool) {
	peak, err := integer(a["BANDWIDTH"])
	if err != nil || peak == 0 {
		f.add("4.4.6.2", "BANDWIDTH is required", line, "%q", a["BANDWIDTH"])
	}
	if v, ok := a["AVERAGE-BANDWIDTH"]; ok {
		if average, err := integer(v); err != nil || average > peak {
			f.add("4.4.6.2", "AVERAGE-BANDWIDTH is at most BANDWIDTH", line, "%s of %d", v, peak)
		}
	}
	if !quoted["CODECS"] {
		f.add("4.4.6.2", "CODECS should be there", line, "%v", a)
	}
	if v, ok := a["RESOLUTION"]; ok {
		w, h, _ := strings.Cut(v, "x")
		if _, err := integer(w + h); err != nil || w == "" || h == "" {
			f.add("4.4.6.2", "RESOLUTION is two integers", line, "%s", v)
		}
	}
	if v, ok := a["FRAME-RATE"]; ok {
		_, decimals, _ := strings.Cut(v, ".")
		if _, err := float(v); err != nil || len(decimals) > 3 {
			f.add("4.4.6.2", "FRAME-RATE has at most three decimals", line, "%s", v)
		}
	}
}

func (f *problems) media(line int, a map[string]string, quoted map[string]bool) {
	for _, name := range []string{"GROUP-ID", "NAME"} {
		if !quoted[name] {
			f.add("4.4.6.1", name+" is required", line, "%v", a)
		}
	}
	if t := a["TYPE"]; t != "AUDIO" && t != "VIDEO" && t != "SUBTITLES" && t != "CLOSED-CAPTIONS" {
		f.add("4.4.6.1", "TYPE is required", line, "%q", t)
	}
	if a["DEFAULT"] == "YES" && a["AUTOSELECT"] != "" && a["AUTOSELECT"] != "YES" {
		f.add("4.4.6.1", "a default rendition can be selected automatically", line, "AUTOSELECT=%s", a["AUTOSELECT"])
	}
}

// groups checks the references to groups, and the groups (4.4.6.1.1).
func (f *problems) groups(variants []Variant, media []map[string]string) {
	type member struct{ typ, group, name string }
	members, defaults, groups := map[member]bool{}, map[member]bool{}, map[member]bool{}
	for _, a := range media {
		m := member{a["TYPE"], a["GROUP-ID"], a["NAME"]}
		group := member{typ: m.typ, group: m.group}
		groups[group] = true
		if members[m] {
			f.add("4.4.6.1.1", "members of a group have different names", 0, "%v", m)
		}
		members[m] = true
		if a["DEFAULT"] == "YES" {
			if defaults[group] {
				f.add("4.4.6.1.1", "a group has one default", 0, "%v", group)
			}
			defaults[group] = true
		}
	}
	for _, v := range variants {
		for _, typ := range []string{"AUDIO", "VIDEO", "SUBTITLES"} {
			if id, ok := v.Attributes[typ]; ok && !groups[member{typ: typ, group: id}] {
				f.add("4.4.6.2", "a variant's group exists", 0, "%s=%s of %s", typ, id, v.URI)
			}
		}
	}
}
