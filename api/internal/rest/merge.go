package rest

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// A Part is the OpenAPI document of some of the operations, whose paths begin
// below a prefix.
type Part struct {
	Prefix string
	Text   []byte
}

// Merge makes one document of several. Components of one name must be the same.
func Merge(title string, parts ...Part) ([]byte, error) {
	type object = map[string]any
	paths, tags, all := object{}, []any{}, object{}
	for _, p := range parts {
		var d struct {
			OpenAPI    string            `json:"openapi"`
			Info       object            `json:"info"`
			Servers    any               `json:"servers"`
			Security   any               `json:"security"`
			Tags       []any             `json:"tags"`
			Paths      object            `json:"paths"`
			Components map[string]object `json:"components"`
		}
		if err := json.Unmarshal(p.Text, &d); err != nil {
			return nil, err
		}
		for path, item := range d.Paths {
			path = p.Prefix + path
			if paths[path] != nil {
				return nil, fmt.Errorf("rest: two parts have %s", path)
			}
			paths[path] = item
		}
		tags = append(tags, d.Tags...)
		if len(all) == 0 {
			d.Info["title"] = title
			all = object{"openapi": d.OpenAPI, "info": d.Info, "servers": d.Servers, "security": d.Security, "paths": paths, "components": d.Components}
			continue
		}
		components := all["components"].(map[string]object)
		for kind, list := range d.Components {
			if components[kind] == nil {
				components[kind] = object{}
			}
			for name, c := range list {
				if old, ok := components[kind][name]; ok && !reflect.DeepEqual(old, c) {
					return nil, fmt.Errorf("rest: two parts have different %s %s", kind, name)
				}
				components[kind][name] = c
			}
		}
	}
	all["tags"] = tags
	return json.Marshal(all)
}
