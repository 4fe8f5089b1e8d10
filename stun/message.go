package stun

import (
	"errors"
	"fmt"

	pion "github.com/pion/stun/v2"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// A Message is a STUN message of github.com/pion/stun/v2. See [Decode].
type Message = pion.Message

// ErrNotSTUN is what Decode returns, wrapped, for bytes that are not one
// whole, well-formed STUN message.
var ErrNotSTUN = errors.New("stun: not a STUN message")

// Decode decodes one whole message, of which it keeps a copy. The Message has
// the attributes that count and no others: those behind MESSAGE-INTEGRITY are
// gone, but for MESSAGE-INTEGRITY-SHA256 and FINGERPRINT, as are those behind
// the latter two (RFC 8489 Sections 14.5 to 14.7). pion's checks of the
// integrity work on what is left.
func Decode(b []byte) (*Message, error) {
	var w stunwire.Message
	if err := w.Parse(b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSTUN, err)
	}
	m := &Message{Raw: w.AppendVisible(make([]byte, 0, len(b)))}
	if err := m.Decode(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSTUN, err)
	}
	return m, nil
}
