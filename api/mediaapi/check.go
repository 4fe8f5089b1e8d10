package mediaapi

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What a declaration may have.
const (
	maxTitle       = 200  // characters
	maxDescription = 5000 // characters
	maxLabels      = 32
	maxLabelName   = 63  // bytes
	maxLabelText   = 256 // bytes
	maxProtocols   = 16
	minKey, maxKey = 16, 200 // bytes
)

// check says what is wrong with what a caller has written.
func (d *declarationBody) check() error {
	switch {
	case utf8.RuneCountInString(d.Title) > maxTitle || !printable(d.Title, ""):
		return fmt.Errorf("title is at most %d printable characters", maxTitle)
	case utf8.RuneCountInString(d.Description) > maxDescription || !printable(d.Description, "\n\t"):
		return fmt.Errorf("description is at most %d printable characters", maxDescription)
	case len(d.Labels) > maxLabels:
		return fmt.Errorf("there are at most %d labels", maxLabels)
	case len(d.Policies.Protocols) > maxProtocols:
		return fmt.Errorf("there are at most %d protocols", maxProtocols)
	case d.Limits.Viewers < 0 || d.Limits.BitRate < 0:
		return errors.New("limits are not negative; 0 is none")
	case d.NewKey && d.Key != nil:
		return errors.New("publish_key and new_publish_key do not go together")
	case d.Key != nil && *d.Key != "" && (len(*d.Key) < minKey || len(*d.Key) > maxKey || !token(*d.Key)):
		return fmt.Errorf("publish_key is %d to %d letters, digits, - . _ ~; take random ones", minKey, maxKey)
	}
	for name, text := range d.Labels {
		if name == "" || len(name) > maxLabelName || !token(name) || len(text) > maxLabelText || !printable(text, "") {
			return fmt.Errorf("a label is a name of 1 to %d letters, digits, - . _ ~ and a text of at most %d printable bytes", maxLabelName, maxLabelText)
		}
	}
	for _, p := range d.Policies.Protocols {
		if p == "" || len(p) > maxLabelName || !token(p) {
			return errors.New("a protocol is a word such as rtmp")
		}
	}
	return nil
}

// printable reports whether a text has no more than characters that can be seen,
// and those that are also allowed.
func printable(s, also string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) && !strings.ContainsRune(also, r) })
}

// token reports whether a text stands in a URL as it is (RFC 3986 Section 2.3).
func token(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._~", r)
	})
}

// newKey makes a publish key: letters and digits, so that encoders take it.
func newKey() string { return strings.ToLower(rand.Text()) }

// location is where a name is below a path.
func location(below, name string) string { return below + (&url.URL{Path: name}).EscapedPath() }

// patched returns what v is as JSON with the changes of a patch, as RFC 7396 has
// them: what the patch names takes the place of what was there, objects member
// by member, and null removes.
func patched(v any, patch []byte) ([]byte, error) {
	old, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var o, p any
	for _, x := range []struct {
		text []byte
		to   *any
	}{{old, &o}, {patch, &p}} {
		d := json.NewDecoder(bytes.NewReader(x.text))
		d.UseNumber()
		if err := d.Decode(x.to); err != nil {
			return nil, err
		}
	}
	if _, ok := p.(map[string]any); !ok {
		return nil, errors.New("a change is an object")
	}
	return json.Marshal(merge(o, p))
}

func merge(old, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	o, ok := old.(map[string]any)
	if !ok {
		o = map[string]any{}
	}
	for name, v := range p {
		if v == nil {
			delete(o, name)
		} else {
			o[name] = merge(o[name], v)
		}
	}
	return o
}
