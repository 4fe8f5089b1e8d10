package resttest

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const good = `{
	"openapi": "3.1.0", "info": {"title": "x", "version": "1"}, "security": [{"token": []}], "tags": [{"name": "a"}],
	"paths": {"/x/{id}": {"parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}], "get": {
		"operationId": "getX", "summary": "an x", "tags": ["a"],
		"responses": {"200": {"description": "done", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/X"}}}}, "default": {"description": "no"}}
	}}},
	"components": {"securitySchemes": {"token": {}}, "schemas": {"X": {"type": "object", "required": ["a"], "properties": {"a": {"type": ["integer", "null"], "minimum": 0}}, "additionalProperties": false}}}
}`

// TestValidate: each mistake is found, and nothing else.
func TestValidate(t *testing.T) {
	parse := func(text string) *Document {
		d := &Document{}
		require.NoError(t, json.Unmarshal([]byte(text), &d.root))
		return d
	}
	require.Empty(t, parse(good).validate())
	for _, c := range [][2]string{
		{`"3.1.0"`, `"3.0.0"`}, {`"title": "x", `, ``}, {`"token": {}`, ``}, {`"tags": ["a"]`, `"tags": ["b"]`}, {`"get":`, `"fetch":`},
		{`"operationId": "getX", `, ``}, {`"an x"`, `""`}, {`"in": "path"`, `"in": "query"`}, {`"required": true, `, ``},
		{`"default"`, `"others"`}, {`"description": "done", `, ``}, {`schemas/X"`, `schemas/Y"`}, {`["a"], "prop`, `["b"], "prop`},
		{`["integer"`, `["int"`}, {`"minimum"`, `"exclusiveMinimum"`}, {`"application/json"`, `"json"`}, {`"type": "string"`, `"type": "array"`},
	} {
		require.Contains(t, good, c[0])
		require.NotEmpty(t, parse(strings.Replace(good, c[0], c[1], 1)).validate(), "%s", c)
	}
}

func TestCheck(t *testing.T) {
	d := Parse(t, []byte(good))
	for text, ok := range map[string]bool{
		`{"a": 1}`: true, `{"a": null}`: true, `{"a": -1}`: false, `{"a": 1.5}`: false, `{"a": "1"}`: false, `{}`: false, `{"a": 1, "b": 2}`: false, `[]`: false,
	} {
		var v any
		require.NoError(t, json.Unmarshal([]byte(text), &v))
		require.Equal(t, ok, d.Check(map[string]any{"$ref": "#/components/schemas/X"}, v, "v") == nil, text)
	}
	for schema, values := range map[string][2]string{
		`{"type": "string", "format": "date-time"}`:                    {`"2026-01-02T03:04:05Z"`, `"yesterday"`},
		`{"type": "string", "enum": ["a"]}`:                            {`"a"`, `"b"`},
		`{"oneOf": [{"type": "boolean"}, {"type": "null"}]}`:           {`true`, `1`},
		`{"type": "array", "items": {"type": "boolean"}}`:              {`[true]`, `[1]`},
		`{"type": "object", "additionalProperties": {"type": "null"}}`: {`{"a": null}`, `{"a": 1}`},
	} {
		var s, yes, no any
		require.NoError(t, json.Unmarshal([]byte(schema), &s))
		require.NoError(t, json.Unmarshal([]byte(values[0]), &yes))
		require.NoError(t, json.Unmarshal([]byte(values[1]), &no))
		require.NoError(t, d.Check(s, yes, "v"), schema)
		require.Error(t, d.Check(s, no, "v"), schema)
	}
}
