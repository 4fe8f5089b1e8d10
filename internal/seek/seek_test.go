package seek

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTo(t *testing.T) {
	for _, offset := range []int64{-200, -40, -1, 0, 1, 30, 200} {
		for _, whence := range []int{io.SeekStart, io.SeekCurrent, io.SeekEnd, 3, -1} {
			r := bytes.NewReader(make([]byte, 100))
			_, _ = r.Seek(40, io.SeekStart)
			want, wantErr := r.Seek(offset, whence)
			got, err := To(40, 100, offset, whence)
			require.Equal(t, wantErr == nil, err == nil)
			if err == nil {
				require.Equal(t, want, got)
			} else {
				require.EqualValues(t, 40, got, "it stays")
			}
		}
	}
}
