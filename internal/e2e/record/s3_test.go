package record

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/record"
	"github.com/runnel-media/runnel/record/s3store"
	"github.com/runnel-media/runnel/record/storagetest"
	"github.com/runnel-media/runnel/stream"
)

// startS3 starts a real S3 server, and returns the URL of a bucket in it for Parse.
func startS3(t *testing.T) string {
	t.Helper()
	bin := peer.Built(t, "versitygw")
	dir, meta := t.TempDir(), t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bucket"), 0o700))
	addr := peer.FreeAddr(t)
	peer.Start(t, bin, "--access", "key", "--secret", "topsecret", "--port", addr, "--quiet", "posix", "--sidecar", meta, dir)
	peer.Eventually(t, 30*time.Second, "an S3 server", func() bool {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
	return "http://key:topsecret@" + addr + "/bucket"
}

// TestS3Storage: the Store keeps a storage's promises on a real server.
func TestS3Storage(t *testing.T) {
	url := startS3(t)
	var n atomic.Int64
	storagetest.Run(t, func(t *testing.T) stream.Storage {
		s, err := s3store.Parse(fmt.Sprintf("%s/%d?region=us-east-1", url, n.Add(1)))
		require.NoError(t, err)
		return s
	})
}

// TestS3Record: the mediaserver records into a bucket, and plays from it.
func TestS3Record(t *testing.T) {
	t.Parallel()
	url := startS3(t) + "/media?region=us-east-1"
	m := startMediaserver(t, "-s3", url)
	info := m.record(t, peer.AV)
	media := peer.Probe(t, 20*time.Second, m.http+"/recordings/"+info.Name)
	require.Empty(t, media.Log)
	require.Len(t, media.Video, peer.AV.Seconds*peer.FPS)
	s, err := s3store.Parse(url)
	require.NoError(t, err)
	_, err = record.Verify(t.Context(), s, info.Name)
	require.NoError(t, err)
	require.NotContains(t, m.Log(), "topsecret")
	left, err := filepath.Glob(filepath.Join(m.dir, "*"))
	require.NoError(t, err)
	require.Empty(t, left, "nothing is kept here")
}
