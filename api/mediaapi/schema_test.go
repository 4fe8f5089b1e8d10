package mediaapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A document is the OpenAPI document as far as the tests read it.
type document struct {
	OpenAPI    string                                `json:"openapi"`
	Paths      map[string]map[string]json.RawMessage `json:"paths"`
	Components struct {
		Schemas map[string]any `json:"schemas"`
	} `json:"components"`
}

type operation struct {
	ID          string `json:"operationId"`
	Summary     string `json:"summary"`
	Description string `json:"description"`
	Parameters  []struct {
		Name string `json:"name"`
		In   string `json:"in"`
	} `json:"parameters"`
	Responses map[string]struct {
		Content map[string]struct {
			Schema any `json:"schema"`
		} `json:"content"`
	} `json:"responses"`
}

func parseDocument(t *testing.T) *document {
	t.Helper()
	var d document
	require.NoError(t, json.Unmarshal(openAPI, &d))
	return &d
}

func (d *document) operation(t *testing.T, method, path string) *operation {
	t.Helper()
	raw, ok := d.Paths[path][strings.ToLower(method)]
	require.True(t, ok, "%s %s is not in the document", method, path)
	var o operation
	require.NoError(t, json.Unmarshal(raw, &o))
	return &o
}

// check says where v is not what the schema says, for the part of JSON Schema
// that the document uses.
func (d *document) check(schema, v any, at string) error {
	s := schema.(map[string]any)
	if name, ok := s["$ref"].(string); ok {
		target, ok := d.Components.Schemas[strings.TrimPrefix(name, "#/components/schemas/")]
		if !ok {
			return fmt.Errorf("%s: no schema %s", at, name)
		}
		return d.check(target, v, at)
	}
	if list, ok := s["oneOf"].([]any); ok {
		n := 0
		for _, one := range list {
			if d.check(one, v, at) == nil {
				n++
			}
		}
		if n != 1 {
			return fmt.Errorf("%s: matches %d of oneOf", at, n)
		}
		return nil
	}
	if list, ok := s["enum"].([]any); ok && !slices.Contains(list, v) {
		return fmt.Errorf("%s: %v is none of %v", at, v, list)
	}
	switch kind := s["type"]; kind {
	case "null":
		if v != nil {
			return fmt.Errorf("%s: not null", at)
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			return fmt.Errorf("%s: %v is no boolean", at, v)
		}
	case "string":
		text, ok := v.(string)
		if !ok {
			return fmt.Errorf("%s: %v is no string", at, v)
		}
		if s["format"] == "date-time" {
			_, err := time.Parse(time.RFC3339Nano, text)
			return err
		}
	case "number", "integer":
		n, ok := v.(float64)
		if least, bounded := s["minimum"].(float64); !ok || kind == "integer" && n != float64(int64(n)) || bounded && n < least {
			return fmt.Errorf("%s: %v is no such %s", at, v, kind)
		}
	case "array":
		list, ok := v.([]any)
		if !ok {
			return fmt.Errorf("%s: %v is no array", at, v)
		}
		for i, e := range list {
			if err := d.check(s["items"], e, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case "object":
		return d.checkObject(s, v, at)
	default:
		return fmt.Errorf("%s: type %v is unknown to the test", at, kind)
	}
	return nil
}

func (d *document) checkObject(s map[string]any, v any, at string) error {
	m, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: %v is no object", at, v)
	}
	properties, _ := s["properties"].(map[string]any)
	required, _ := s["required"].([]any)
	for _, name := range required {
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
		if err := d.check(schema, e, at+"."+name); err != nil {
			return err
		}
	}
	return nil
}

// TestDocument: the document and the handlers have the same operations, with
// the same parameters in the path and the same roles, and no reference dangles.
func TestDocument(t *testing.T) {
	d := parseDocument(t)
	require.Equal(t, "3.1.0", d.OpenAPI)
	ids := map[string]bool{}
	n := 0
	for _, rt := range routes() {
		o := d.operation(t, rt.method, rt.path)
		n++
		require.NotEmpty(t, o.Summary, o.ID)
		require.False(t, ids[o.ID], "two operations are %s", o.ID)
		ids[o.ID] = true
		require.Equal(t, "Takes the role "+rt.need.String()+".", o.Description, o.ID)
		require.Contains(t, o.Responses, "default", o.ID)
		for _, p := range []string{"name", "id"} {
			if strings.Contains(rt.path, "{"+p+"}") {
				require.Contains(t, string(d.Paths[rt.path]["parameters"]), `"`+p+`"`)
			}
		}
	}
	for path, item := range d.Paths {
		for method := range item {
			if method != "parameters" {
				n--
			}
			require.Contains(t, []string{"get", "put", "delete", "parameters"}, method, path)
		}
	}
	require.Zero(t, n, "the document has operations that the handlers have not")
	for _, part := range strings.Split(string(openAPI), `"$ref": "#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(part, `"`)
		require.Contains(t, d.Components.Schemas, name)
	}
}
