package resttest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var (
	methods   = []string{"get", "put", "post", "patch", "delete"}
	kinds     = []string{"null", "boolean", "string", "number", "integer", "array", "object"}
	keywords  = []string{"$ref", "type", "format", "description", "enum", "oneOf", "minimum", "maximum", "default", "items", "properties", "required", "additionalProperties"}
	statuses  = regexp.MustCompile(`^([1-5][0-9][0-9]|default)$`)
	parameter = regexp.MustCompile(`\{([a-z]+)\}`)
)

// validate says where the document breaks OpenAPI 3.1, or uses what Check does
// not know.
func (d *Document) validate() (findings []string) {
	find := func(format string, args ...any) { findings = append(findings, fmt.Sprintf(format, args...)) }
	if v, _ := d.root["openapi"].(string); !strings.HasPrefix(v, "3.1.") {
		find("openapi is %q", v)
	}
	info := object(d.root["info"])
	if info["title"] == nil || info["version"] == nil {
		find("info has no title and version")
	}
	components := object(d.root["components"])
	for _, s := range list(d.root["security"]) {
		for name := range object(s) {
			if object(components["securitySchemes"])[name] == nil {
				find("security scheme %s is missing", name)
			}
		}
	}
	tags := map[any]bool{}
	for _, tag := range list(d.root["tags"]) {
		tags[object(tag)["name"]] = true
	}
	ids := map[any]bool{}
	for path, item := range object(d.root["paths"]) {
		if !strings.HasPrefix(path, "/") {
			find("path %q", path)
		}
		for method, o := range object(item) {
			if method == "parameters" {
				continue
			}
			at, o := strings.ToUpper(method)+" "+path, object(o)
			if !slices.Contains(methods, method) {
				find("%s: method", at)
			}
			if id := o["operationId"]; id == nil || ids[id] {
				find("%s: operationId %v", at, id)
			}
			ids[o["operationId"]] = true
			if s, _ := o["summary"].(string); s == "" {
				find("%s: no summary", at)
			}
			for _, tag := range list(o["tags"]) {
				if !tags[tag] {
					find("%s: tag %v", at, tag)
				}
			}
			var names []string
			for _, p := range append(list(object(item)["parameters"]), list(o["parameters"])...) {
				p := d.resolve(p)
				name, _ := p["name"].(string)
				switch in := p["in"]; {
				case name == "" || p["schema"] == nil || in != "path" && in != "query" && in != "header":
					find("%s: parameter %v", at, p)
				case in == "path":
					names = append(names, name)
					if p["required"] != true {
						find("%s: parameter %s is not required", at, name)
					}
				}
				findings = append(findings, d.validateSchema(p["schema"], at)...)
			}
			var want []string
			for _, m := range parameter.FindAllStringSubmatch(path, -1) {
				want = append(want, m[1])
			}
			if !slices.Equal(names, want) {
				find("%s: parameters %v", at, names)
			}
			if body := object(o["requestBody"]); body != nil {
				findings = append(findings, d.validateContent(body, at)...)
			}
			responses := object(o["responses"])
			if d.resolve(responses["default"]) == nil {
				find("%s: no default response", at)
			}
			for status, r := range responses {
				r := d.resolve(r)
				if !statuses.MatchString(status) || r["description"] == nil {
					find("%s: response %s", at, status)
				}
				findings = append(findings, d.validateContent(r, at)...)
			}
		}
	}
	for name, s := range object(components["schemas"]) {
		findings = append(findings, d.validateSchema(s, "schema "+name)...)
	}
	slices.Sort(findings)
	return findings
}

func (d *Document) validateContent(v map[string]any, at string) (findings []string) {
	for kind, media := range object(v["content"]) {
		if !strings.Contains(kind, "/") {
			findings = append(findings, fmt.Sprintf("%s: media type %s", at, kind))
		}
		if s, ok := object(media)["schema"]; ok {
			findings = append(findings, d.validateSchema(s, at)...)
		}
	}
	return findings
}

func (d *Document) validateSchema(v any, at string) (findings []string) {
	s, ok := v.(map[string]any)
	if !ok {
		return []string{at + ": no schema"}
	}
	find := func(format string, args ...any) { findings = append(findings, at+": "+fmt.Sprintf(format, args...)) }
	for keyword := range s {
		if !slices.Contains(keywords, keyword) {
			find("keyword %s", keyword)
		}
	}
	if ref, ok := s["$ref"]; ok && d.resolve(s) == nil {
		find("%v leads nowhere", ref)
	}
	types := list(s["type"])
	if text, ok := s["type"].(string); ok {
		types = []any{text}
	}
	for _, kind := range types {
		if text, _ := kind.(string); !slices.Contains(kinds, text) {
			find("type %v", kind)
		}
		if kind == "array" && s["items"] == nil {
			find("an array without items")
		}
	}
	properties := object(s["properties"])
	for _, name := range list(s["required"]) {
		if text, _ := name.(string); properties[text] == nil {
			find("%v is required and not there", name)
		}
	}
	for name, p := range properties {
		findings = append(findings, d.validateSchema(p, at+"."+name)...)
	}
	for _, part := range []string{"items", "additionalProperties"} {
		if p, ok := s[part]; ok && p != false {
			findings = append(findings, d.validateSchema(p, at+"."+part)...)
		}
	}
	for _, p := range list(s["oneOf"]) {
		findings = append(findings, d.validateSchema(p, at+".oneOf")...)
	}
	return findings
}
