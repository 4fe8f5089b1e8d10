package record

import (
	"context"
	"iter"

	"github.com/runnel-media/runnel/stream"
)

// A DraftStorage is a stream.Storage that can also keep what there is of a file
// when its writer ended without a word: killed, out of power, out of space. Dir is
// one. A Recorder writes drafts where it can, and Repair makes files of those that
// were left. All methods may be called from many goroutines at once.
type DraftStorage interface {
	stream.Storage

	// CreateDraft begins a file that stays, unseen by Open and List, until it is
	// published or removed. note is what its finder is to know of it, at most
	// MaxNote bytes. ctx bounds the writing.
	CreateDraft(ctx context.Context, name string, note []byte) (Draft, error)

	// Drafts yields the drafts that nobody writes any more. Each is its
	// receiver's, to be ended by Publish, Remove or Leave. An error ends it.
	Drafts(ctx context.Context) iter.Seq2[Draft, error]
}

// MaxNote bounds the note of a draft, in bytes.
const MaxNote = 64 << 10

// A Draft is a file that is being written. It is for one goroutine; Publish,
// Remove and Leave end it, and do nothing when it has ended.
type Draft interface {
	Name() string // that it is going to have
	Note() []byte // not to be modified
	Size() int64  // of what was written

	// Write appends. If it fails, Truncate and Publish still work as far as
	// possible.
	Write(p []byte) (int, error)

	// WriteAt replaces what is from off on, which is not behind the end, by p,
	// which reaches to the end at least. Who is killed meanwhile leaves the one or
	// the other.
	WriteAt(p []byte, off int64) (int, error)

	// Reader returns what has been written so far, for another goroutine too,
	// until ctx or the draft ends.
	Reader(ctx context.Context) (stream.StorageReader, error)

	// Truncate cuts off what is behind size.
	Truncate(size int64) error

	// Publish puts the draft into its place, as Close does with what Create
	// began. If it fails the draft is left.
	Publish(ctx context.Context) error

	// Remove gives the draft up.
	Remove() error

	// Leave stops writing: Drafts will yield it.
	Leave() error
}
