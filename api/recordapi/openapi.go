package recordapi

import _ "embed"

//go:embed openapi.json
var openAPI []byte

// OpenAPI returns the document of what a Handler serves, for package api.
func (h *Handler) OpenAPI() []byte { return openAPI }
