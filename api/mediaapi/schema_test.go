package mediaapi

import (
	"sync"
	"testing"

	"github.com/runnel-media/runnel/api/internal/resttest"
)

// parsed is read once: it is long.
var parsed struct {
	sync.Once
	*resttest.Document
}

// document is the OpenAPI document, which is valid.
func document(t *testing.T) *resttest.Document {
	t.Helper()
	parsed.Do(func() { parsed.Document = resttest.Parse(t, openAPI) })
	return parsed.Document
}

// TestDocument: the document and the handlers have the same operations, with
// the same roles.
func TestDocument(t *testing.T) { document(t).Routes(t, (&Handler{}).routes()) }
