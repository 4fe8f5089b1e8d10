package ingest

import (
	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
)

// readTS publishes a transport stream: one programme of it.
func readTS(u *upload, pub *stream.Publisher) error {
	d := &mpegts.Demuxer{Sink: pub}
	_, err := d.ReadFrom(u)
	if err == nil && u.read == 0 {
		return mpegts.ErrMalformed
	}
	if err == nil && len(pub.Stream().Tracks()) == 0 {
		err = d.Unsupported()
	}
	return carried(err, pub)
}
