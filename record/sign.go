package record

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/runnel-media/runnel/stream"
)

// A Signer signs manifests with Ed25519, so that Verify can tell that a recording is
// what a Recorder with the key has written.
type Signer struct {
	Name string // of the key, for those who have several
	Key  ed25519.PrivateKey
}

// sign fills in who signs, and the signature.
func (s *Signer) sign(info *Info) error {
	if len(s.Key) != ed25519.PrivateKeySize {
		return errors.New("record: Signer without a key")
	}
	info.Signed, info.Signature = s.Name, nil
	b, err := signed(*info)
	if err != nil {
		return err
	}
	info.Signature = ed25519.Sign(s.Key, b)
	return nil
}

// signed returns what is signed of a manifest: all but the signature.
func signed(info Info) ([]byte, error) {
	info.Signature = nil
	b, err := json.Marshal(info)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return append([]byte("runnel recording 1\n"), b...), nil
}

// ErrTampered is wrapped by what Verify says of a recording that is not what was
// written.
var ErrTampered = errors.New("record: recording is not what was written")

// Verify reads a recording and its manifest and compares the two. With keys, one of
// them must have signed the manifest. The error wraps ErrTampered, or is that of the
// storage; fs.ErrNotExist means that there is no such manifest.
func Verify(ctx context.Context, s stream.Storage, name string, keys ...ed25519.PublicKey) (*Info, error) {
	info, err := readInfo(ctx, s, name)
	if err != nil {
		return nil, err
	}
	if info.Name != name {
		return nil, fmt.Errorf("%w: the manifest of %q is that of %q", ErrTampered, name, info.Name)
	}
	if len(keys) > 0 {
		b, err := signed(*info)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(keys, func(k ed25519.PublicKey) bool {
			return len(k) == ed25519.PublicKeySize && ed25519.Verify(k, b, info.Signature)
		}) {
			return nil, fmt.Errorf("%w: no key has signed the manifest of %q", ErrTampered, name)
		}
	}
	for _, want := range info.Files {
		got, err := sum(ctx, s, want.Name)
		if err != nil {
			return nil, err
		}
		if got.Size != want.Size || !slices.Equal(got.SHA256, want.SHA256) {
			return nil, fmt.Errorf("%w: %q", ErrTampered, want.Name)
		}
	}
	return info, nil
}

// maxManifest bounds what is read of a manifest: that of an HLS recording has a line
// for each of its segments.
const maxManifest = 64 << 20

// readInfo reads the manifest of a recording.
func readInfo(ctx context.Context, s stream.Storage, name string) (*Info, error) {
	f, err := s.Open(ctx, name+manifestSuffix)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	var info Info
	if err := json.Unmarshal(b, &info); err != nil {
		return nil, fmt.Errorf("record: manifest of %q: %w", name, err)
	}
	return &info, nil
}
