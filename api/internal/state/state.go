// Package state keeps small things of the control plane in files of JSON.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxSize bounds what is read, in bytes.
const maxSize = 64 << 20

// Read decodes a file. One that is not there leaves into as it is.
func Read(path string, into any) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return err
	}
	if len(text) > maxSize {
		return fmt.Errorf("api: %s has more than %d bytes", path, maxSize)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("api: %s: %w", path, err)
	}
	return nil
}

// Write puts v in the place of a file that only its owner may read: all of it or
// nothing, also if the machine stops meanwhile.
func Write(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // it is gone if all goes well
	_, err = f.Write(append(text, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
