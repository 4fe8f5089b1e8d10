package stream

import (
	"context"
	"io"
	"iter"
	"time"

	"github.com/runnel-media/runnel/internal/name"
)

// Storage keeps files under names: recordings, and HLS that can be played when
// its stream has ended. record.Dir is one. All methods may be called from many
// goroutines at once; their contexts bound how long they may take, as far as the
// storage can be interrupted.
//
// Names are paths with slashes as CheckStorageName has them; others are refused
// with an error that wraps ErrName. What is not there is an error that wraps
// fs.ErrNotExist.
//
// record/storagetest checks a Storage against this.
type Storage interface {
	// Create begins a file. Nothing is under the name until Close has returned
	// nil: then the whole file, in the place of one that was there before. ctx
	// is for the writing too: when it ends, Write and Close fail.
	Create(ctx context.Context, name string) (StorageWriter, error)

	// Open opens a file for reading. It stays what it was if another takes its
	// place meanwhile. ctx is for the reading too.
	Open(ctx context.Context, name string) (StorageReader, error)

	// List yields the files whose names begin with prefix, which need not end at
	// a slash, in the order of their names' bytes. What is created or removed
	// meanwhile may be missing or not. An error ends it.
	List(ctx context.Context, prefix string) iter.Seq2[StorageInfo, error]

	// Remove removes a file. Who has it open can read on.
	Remove(ctx context.Context, name string) error
}

// A StorageWriter takes the content of a file. It is for one goroutine.
type StorageWriter interface {
	io.Writer

	// Close makes the file be there. If a Write failed, or Close does, there is
	// no trace of it.
	Close() error

	// Abort gives the file up instead. After Close it does nothing, so that it
	// can be deferred.
	Abort() error
}

// A StorageReader reads a file. It is for one goroutine, and to be closed.
type StorageReader interface {
	io.ReadSeekCloser
	Info() StorageInfo
}

// StorageInfo describes a stored file.
type StorageInfo struct {
	Name    string    `json:"name"`
	Size    int64     `json:"size"`
	ModTime time.Time `json:"modTime"` // when it was closed
}

// CheckStorageName says whether a Storage takes a name: segments separated by
// "/" as in a hub key, none of them longer than 255 bytes nor all together than
// 1024. The error wraps ErrName.
func CheckStorageName(storageName string) error { return name.CheckPath(storageName) }

// StorageFailed: a file of a stream could not be stored, and is lost.
type StorageFailed struct {
	Time   time.Time `json:"time"`
	Stream string    `json:"stream"`
	Name   string    `json:"name"` // of the file
	Err    error     `json:"-"`
}

func (StorageFailed) event() {}

// ReportStorageFailure emits a StorageFailed event: for those who store what they
// read of a stream.
func (h *Hub) ReportStorageFailure(streamName, file string, err error) {
	h.emit(StorageFailed{Time: time.Now(), Stream: streamName, Name: file, Err: err})
}
