package stream

import (
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/runnel-media/runnel/internal/name"
)

// A Declaration is what is known of a stream whether anybody publishes it or
// not. It outlives publishers and ends with Undeclare. Who may publish and play
// is an auth.Authorizer's to say; api/declared has one that goes by what is
// written here.
type Declaration struct {
	Title       string            `json:"title,omitempty"`
	Description string            `json:"description,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`

	// KeyHash is the SHA-256 of the key that publishers must send. Keys are
	// random, so that it need not be a slow hash. nil: there is no key.
	KeyHash []byte `json:"key_hash,omitempty"`

	Disabled  bool      `json:"disabled,omitempty"`  // nobody may publish
	Replace   bool      `json:"replace,omitempty"`   // a new publisher takes over from the one that is there
	Protocols []string  `json:"protocols,omitempty"` // that publishers may use, as in auth.Request; none: all
	Expires   time.Time `json:"expires,omitzero"`    // publishing ends then; zero: never

	MaxViewers int   `json:"max_viewers,omitempty"`  // sessions that play it at once; 0: no bound
	MaxBitRate int64 `json:"max_bit_rate,omitempty"` // bits a second of a publisher; 0: no bound

	Created time.Time `json:"created"` // filled in by Hub.Declare if zero
	Changed time.Time `json:"changed"` // filled in by Hub.Declare
}

// clone copies d with all that it refers to.
func (d *Declaration) clone() *Declaration {
	c := *d
	c.Labels = maps.Clone(d.Labels)
	c.KeyHash = slices.Clone(d.KeyHash)
	c.Protocols = slices.Clone(d.Protocols)
	return &c
}

// Declare makes a stream known ahead of its publisher, or changes what is known
// of it. The hub keeps a copy. It does not end what is live.
func (h *Hub) Declare(key string, d *Declaration) error {
	if err := name.Check(key); err != nil {
		return err
	}
	d = d.clone()
	d.Changed = time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	if d.Created.IsZero() {
		d.Created = d.Changed
		if old := h.declared[key]; old != nil {
			d.Created = old.Created
		}
	}
	if h.declared == nil {
		h.declared = make(map[string]*Declaration)
	}
	h.declared[key] = d
	h.emit(StreamDeclared{Time: d.Changed, Stream: key, Declaration: d})
	return nil
}

// Undeclare forgets what was declared, and reports whether anything was. A
// stream that is live stays so.
func (h *Hub) Undeclare(key string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.declared[key] == nil {
		return false
	}
	delete(h.declared, key)
	h.emit(StreamUndeclared{Time: time.Now(), Stream: key})
	return true
}

// Declaration returns what was declared of a stream, or nil. It is not to be
// modified.
func (h *Hub) Declaration(key string) *Declaration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.declared[key]
}

// Declarations yields what is declared when it is called, by name, in no
// order. It is not to be modified.
func (h *Hub) Declarations() iter.Seq2[string, *Declaration] {
	h.mu.Lock()
	all := maps.Clone(h.declared)
	h.mu.Unlock()
	return maps.All(all)
}

// StreamDeclared: a stream was declared ahead, or what is known of it changed.
type StreamDeclared struct {
	Time        time.Time    `json:"time"`
	Stream      string       `json:"stream"`
	Declaration *Declaration `json:"-"` // not to be modified
}

// StreamUndeclared: what was known of it is forgotten.
type StreamUndeclared struct {
	Time   time.Time `json:"time"`
	Stream string    `json:"stream"`
}

func (StreamDeclared) event()   {}
func (StreamUndeclared) event() {}
