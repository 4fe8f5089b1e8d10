package srt

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/internal/e2e/peer"
)

const passphrase = "correct horse battery"

// patience is how many milliseconds libsrt is to wait for an answer, where 3000 may
// not do on a busy machine.
const patience = "60000"

// publishers are the programs that publish a transport stream at its own speed,
// with options as libsrt names them.
var publishers = map[string]func(file, url, options string) []string{
	"ffmpeg": func(file, url, options string) []string {
		return []string{"ffmpeg", "-nostdin", "-v", "error", "-re", "-i", file, "-c", "copy", "-f", "mpegts", url + options + "&pkt_size=1316&connect_timeout=" + patience}
	},
	"srt-live-transmit": func(file, url, options string) []string {
		return []string{"sh", "-c", fmt.Sprintf("ffmpeg -nostdin -v error -re -i %s -c copy -f mpegts - | srt-live-transmit -a no -q -chunk 1316 file://con '%s%s&conntimeo=%s'", file, url, options, patience)}
	},
}

// publish publishes in the background until the test ends.
func (s *server) publish(t *testing.T, with, options string) {
	t.Helper()
	peer.Need(t, with)
	argv := publishers[with](ts(t), s.srt, "?streamid=#!::r=live/cam,m=publish"+options)
	peer.Start(t, argv[0], argv[1:]...)
	s.waitStream(t, "live/cam")
}

// transmit plays with srt-live-transmit to a file until stop, which waits until
// there are some seconds.
func transmit(t *testing.T, url string) (file string, stop func()) {
	t.Helper()
	peer.Need(t, "srt-live-transmit")
	file = filepath.Join(t.TempDir(), "out.ts")
	p := peer.Start(t, "sh", "-c", fmt.Sprintf("exec srt-live-transmit -a no -q -chunk 1316 '%s&conntimeo=%s' file://con > %s", url, patience, file))
	return file, func() {
		t.Helper()
		waitFile(t, p, file)
		_ = p.Stop(t, time.Minute)
	}
}

// waitFile waits until a program has written some seconds of the clip.
func waitFile(t *testing.T, p *peer.Process, file string) {
	t.Helper()
	peer.Eventually(t, time.Minute, "media in "+filepath.Base(file), func() bool {
		require.True(t, p.Running(), "it ended: %s", p.Log())
		info, err := os.Stat(file)
		return err == nil && info.Size() > 180_000
	})
}

// One publisher plays over SRT, RTMP, HTTP-FLV and HLS at once, to several
// players; encrypted and not, with a packet filter and without.
func TestEverythingAtOnce(t *testing.T) {
	for name, c := range map[string]struct{ publisher, pub, play string }{
		"ffmpeg":                      {"ffmpeg", "", ""},
		"ffmpeg AES-256":              {"ffmpeg", "&passphrase=" + passphrase + "&pbkeylen=32", "&passphrase=" + passphrase + "&pbkeylen=16"},
		"srt-live-transmit":           {"srt-live-transmit", "", ""},
		"srt-live-transmit AES + FEC": {"srt-live-transmit", "&passphrase=" + passphrase + "&pbkeylen=24&packetfilter=fec,cols:10,rows:5", "&passphrase=" + passphrase + "&packetfilter=fec,cols:8,rows:4,layout:even"},
	} {
		if c.pub == "" && !everything {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := ingest.SRT{}
			if c.pub != "" {
				o.Passphrase = passphrase
			}
			s := startServer(t, auth.AllowAll, o)
			s.publish(t, c.publisher, c.pub)
			dir := t.TempDir()
			ffplay := c.play // ffmpeg has no packet filters
			if o.Passphrase != "" {
				ffplay = "&passphrase=" + passphrase
			}
			inputs := map[string]string{
				"srt":  s.srt + "?streamid=live/cam" + ffplay + "&connect_timeout=" + patience,
				"rtmp": s.rtmp + "/live/cam",
				"flv":  s.http + "/live/cam.flv",
			}
			var wg sync.WaitGroup
			files := make(map[string]string)
			for kind, in := range inputs {
				file := filepath.Join(dir, kind+".mkv")
				files[kind] = file
				wg.Go(func() {
					_, log, err := peer.Try(t, 2*time.Minute, "ffmpeg", "-nostdin", "-v", "error", "-rw_timeout", "60000000", "-i", in, "-t", "2", "-c", "copy", "-y", file)
					if err != nil {
						t.Errorf("%s: %v\n%s", kind, err, log)
					}
				})
			}
			sltFile, stop := transmit(t, s.srt+"?streamid=live/cam"+c.play)
			hls := filepath.Join(dir, "hls.mkv")
			wg.Go(func() {
				_, log, err := peer.Try(t, 2*time.Minute, "ffmpeg", "-nostdin", "-v", "error", "-i", s.http+"/live/cam.m3u8", "-t", "1", "-c", "copy", "-y", hls)
				if err != nil {
					t.Errorf("HLS: %v\n%s", err, log)
				}
			})
			peer.Eventually(t, time.Minute, "the publisher and a player", func() bool {
				publishes, plays := false, false
				for c := range s.in.SRTConns() {
					require.Equal(t, "live/cam", c.Stream)
					require.NotEmpty(t, c.Session)
					publishes = publishes || c.Publish && c.Stats.PktRecv > 0
					plays = plays || !c.Publish && c.Stats.PktSent > 0
				}
				return publishes && plays
			})
			stop()
			wg.Wait()
			for _, file := range files {
				checkMedia(t, file, 40)
			}
			checkMedia(t, hls, 10)
			checkMedia(t, sltFile, 40)
		})
	}
}

// GStreamer, which has its own idea of how to use libsrt, publishes and plays.
func TestGStreamer(t *testing.T) {
	t.Parallel()
	if _, log, err := peer.Try(t, time.Minute, "gst-inspect-1.0", "srtsink"); err != nil {
		require.False(t, everything, log)
		t.Skip("GStreamer lacks srtsink, of gstreamer1.0-plugins-bad in Debian")
	}
	for _, c := range []struct{ name, secret string }{{"plain", ""}, {"encrypted", passphrase}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, auth.AllowAll, ingest.SRT{Passphrase: c.secret})
			var secret []string
			if c.secret != "" {
				secret = []string{"passphrase=" + c.secret, "pbkeylen=16"}
			}
			peer.Start(t, "gst-launch-1.0", slices.Concat([]string{
				"-q", "filesrc", "location=" + ts(t), "!", "tsparse", "set-timestamps=true", "alignment=7", "!",
				"srtsink", "sync=true", "uri=" + s.srt, "streamid=#!::r=live/cam,m=publish",
			}, secret)...)
			s.waitStream(t, "live/cam")
			file := filepath.Join(t.TempDir(), "out.ts")
			play := peer.Start(t, "gst-launch-1.0", slices.Concat([]string{"-q", "srtsrc", "uri=" + s.srt, "streamid=live/cam"}, secret,
				[]string{"!", "filesink", "buffer-mode=unbuffered", "location=" + file})...)
			waitFile(t, play, file)
			play.Kill()
			checkMedia(t, file, 40)
		})
	}
}

// A stream of RTMP plays over SRT: SRS can't do that.
func TestRTMPPlaysOverSRT(t *testing.T) {
	t.Parallel()
	s := startServer(t, auth.AllowAll, ingest.SRT{})
	peer.Start(t, "ffmpeg", "-nostdin", "-v", "error", "-re", "-i", ts(t), "-c", "copy", "-f", "flv", s.rtmp+"/live/cam")
	s.waitStream(t, "live/cam")
	file, stop := transmit(t, s.srt+"?streamid=live/cam")
	stop()
	checkMedia(t, file, 40)
}

// Passphrases are the authorizer's, stream by stream; what is wrong is refused in
// SRT's words, which srt-live-transmit prints.
func TestPassphrasePerStream(t *testing.T) {
	t.Parallel()
	peer.Need(t, "srt-live-transmit")
	s := startServer(t, auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
		switch {
		case r.Name == "open":
			return nil, nil
		case r.Proof != nil && r.Proof(auth.Secret{Plain: "passphrase of " + r.Name}):
			return nil, nil
		}
		return nil, auth.ErrDenied
	}), ingest.SRT{})
	try := func(options, answer string) {
		p := peer.Start(t, "srt-live-transmit", "-a", "no", "-loglevel", "warning", s.srt+"?"+options+"&conntimeo="+patience, "file://con")
		p.WaitLog(t, answer, time.Minute)
		p.Kill()
	}
	try("streamid=live/cam&passphrase=passphrase of cat", "Incorrect passphrase")
	try("streamid=live/cam", "Application-defined rejection") // not authorized
	try("streamid=#!::r=live/open,m=publish&passphrase=passphrase of cam", "Password required or unexpected")
	try("mode=caller", "Application-defined rejection") // no stream id

	s.publish(t, "ffmpeg", "&passphrase=passphrase of cam")
	file, stop := transmit(t, s.srt+"?streamid=live/cam&passphrase=passphrase of cam")
	stop()
	checkMedia(t, file, 40)
}
