// Package resttest holds what handlers do and their OpenAPI document together,
// in tests.
package resttest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/runnel-media/runnel/api/internal/rest"
)

// A Document is an OpenAPI 3.1 document.
type Document struct {
	root map[string]any
}

// Parse reads a document, which must be valid; see Document.validate.
func Parse(t testing.TB, text []byte) *Document {
	t.Helper()
	d := &Document{}
	if err := json.Unmarshal(text, &d.root); err != nil {
		t.Fatal(err)
	}
	if findings := d.validate(); len(findings) > 0 {
		t.Fatalf("the document is not valid:\n%s", strings.Join(findings, "\n"))
	}
	return d
}

func object(v any) map[string]any { m, _ := v.(map[string]any); return m }

func list(v any) []any { l, _ := v.([]any); return l }

// resolve follows a reference, if v is one.
func (d *Document) resolve(v any) map[string]any {
	m := object(v)
	ref, ok := m["$ref"].(string)
	if !ok {
		return m
	}
	at := any(d.root)
	for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		at = object(at)[part]
	}
	return object(at)
}

// Operation returns an operation of the document.
func (d *Document) Operation(t testing.TB, method, path string) map[string]any {
	t.Helper()
	o := object(object(object(d.root["paths"])[path])[strings.ToLower(method)])
	if o == nil {
		t.Fatalf("%s %s is not in the document", method, path)
	}
	return o
}

// Answer checks an answer's body against what the document says of it.
func (d *Document) Answer(t testing.TB, method, path string, status int, kind string, body []byte) {
	t.Helper()
	responses := object(d.Operation(t, method, path)["responses"])
	r := d.resolve(responses[fmt.Sprint(status)])
	if r == nil {
		if r = d.resolve(responses["default"]); r == nil || status < 400 {
			t.Fatalf("%s %s: %d is not in the document", method, path, status)
		}
	}
	content := object(r["content"])
	if content == nil {
		if len(body) > 0 {
			t.Fatalf("%s %s: %d has a body, which is not in the document", method, path, status)
		}
		return
	}
	media := object(content[kind])
	if media == nil {
		t.Fatalf("%s %s: %d is %s, which is not in the document", method, path, status, kind)
	}
	if strings.HasSuffix(kind, "json") {
		var v any
		if err := json.Unmarshal(body, &v); err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		if err := d.Check(media["schema"], v, path); err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
	}
}

// Schema checks a value against a schema of the document's components.
func (d *Document) Schema(t testing.TB, name string, v any) {
	t.Helper()
	if err := d.Check(map[string]any{"$ref": "#/components/schemas/" + name}, v, name); err != nil {
		t.Fatal(err)
	}
}

// Check says where v is not what the schema says, for the part of JSON Schema
// that validate lets pass.
func (d *Document) Check(schema, v any, at string) error {
	s := d.resolve(schema)
	if enum := list(s["enum"]); enum != nil && !slices.Contains(enum, v) {
		return fmt.Errorf("%s: %v is none of %v", at, v, enum)
	}
	if one := list(s["oneOf"]); one != nil {
		n := 0
		for _, o := range one {
			if d.Check(o, v, at) == nil {
				n++
			}
		}
		if n != 1 {
			return fmt.Errorf("%s: matches %d of oneOf", at, n)
		}
		return nil
	}
	kinds := list(s["type"])
	if kinds == nil {
		if s["type"] == nil {
			return nil // anything
		}
		kinds = []any{s["type"]}
	}
	var err error
	for _, kind := range kinds {
		if err = d.checkKind(s, kind.(string), v, at); err == nil {
			return nil
		}
	}
	return err
}

func (d *Document) checkKind(s map[string]any, kind string, v any, at string) error {
	wrong := fmt.Errorf("%s: %v is no such %s", at, v, kind)
	switch kind {
	case "null":
		if v != nil {
			return wrong
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			return wrong
		}
	case "string":
		text, ok := v.(string)
		if !ok {
			return wrong
		}
		if s["format"] == "date-time" {
			if _, err := time.Parse(time.RFC3339Nano, text); err != nil {
				return wrong
			}
		}
	case "number", "integer":
		n, ok := v.(float64)
		least, bounded := s["minimum"].(float64)
		if !ok || kind == "integer" && n != float64(int64(n)) || bounded && n < least {
			return wrong
		}
	case "array":
		l, ok := v.([]any)
		if !ok {
			return wrong
		}
		for i, e := range l {
			if err := d.Check(s["items"], e, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case "object":
		m, ok := v.(map[string]any)
		if !ok {
			return wrong
		}
		return d.checkMembers(s, m, at)
	}
	return nil
}

func (d *Document) checkMembers(s, m map[string]any, at string) error {
	properties := object(s["properties"])
	for _, name := range list(s["required"]) {
		if _, ok := m[name.(string)]; !ok {
			return fmt.Errorf("%s: %v is missing", at, name)
		}
	}
	for name, e := range m {
		schema, ok := properties[name]
		if !ok {
			if schema, ok = s["additionalProperties"]; !ok {
				continue
			}
			if schema == false {
				return fmt.Errorf("%s: %s is not in the document", at, name)
			}
		}
		if err := d.Check(schema, e, at+"."+name); err != nil {
			return err
		}
	}
	return nil
}

// Routes checks that the document and the handlers have the same operations,
// with the same roles.
func (d *Document) Routes(t testing.TB, routes []rest.Route) {
	t.Helper()
	left := map[string]bool{}
	for path, item := range object(d.root["paths"]) {
		for method := range object(item) {
			if method != "parameters" {
				left[strings.ToUpper(method)+" "+path] = true
			}
		}
	}
	for _, rt := range routes {
		o := d.Operation(t, rt.Method, rt.Path)
		if want := "Takes the role " + rt.Need.String() + "."; !strings.HasPrefix(fmt.Sprint(o["description"]), want) {
			t.Errorf("%s %s: the description does not begin with %q", rt.Method, rt.Path, want)
		}
		delete(left, rt.Method+" "+rt.Path)
	}
	for operation := range left {
		t.Errorf("%s is in the document, and nowhere else", operation)
	}
}
