package srt

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/internal/e2e/peer"
)

const passphrase = "correct horse battery"

// publishers are the programs that publish a transport stream at its own speed.
var publishers = map[string]func(file, url, options string) []string{
	"ffmpeg": func(file, url, options string) []string {
		return []string{"ffmpeg", "-nostdin", "-v", "error", "-re", "-i", file, "-c", "copy", "-f", "mpegts", url + options + "&pkt_size=1316"}
	},
	"srt-live-transmit": func(file, url, options string) []string {
		return []string{"sh", "-c", fmt.Sprintf("ffmpeg -nostdin -v error -re -i %s -c copy -f mpegts - | srt-live-transmit -a no -q -chunk 1316 file://con '%s%s'", file, url, options)}
	},
}

// publish publishes the clip in the background.
func (s *server) publish(t *testing.T, with, options string) *peer.Process {
	t.Helper()
	argv := publishers[with](ts(t), s.srt, "?streamid=#!::r=live/cam,m=publish"+options)
	peer.Need(t, with)
	return peer.Start(t, argv[0], argv[1:]...)
}

// transmit plays with srt-live-transmit to a file for as long as the publisher
// sends.
func transmit(t *testing.T, url string) (p *peer.Process, file string) {
	peer.Need(t, "srt-live-transmit")
	file = filepath.Join(t.TempDir(), "out.ts")
	return peer.Start(t, "sh", "-c", fmt.Sprintf("exec srt-live-transmit -a no -q -chunk 1316 '%s' file://con > %s", url, file)), file
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
			s.in.IdleTimeout = 2 * time.Second // srt-live-transmit does not end with its input
			pub := s.publish(t, c.publisher, c.pub)
			s.waitStream(t, "live/cam")
			dir := t.TempDir()
			ffplay := c.play // ffmpeg has no packet filters
			if o.Passphrase != "" {
				ffplay = "&passphrase=" + passphrase
			}
			inputs := map[string]string{
				"srt":  s.srt + "?streamid=live/cam" + ffplay,
				"rtmp": s.rtmp + "/live/cam",
				"flv":  s.http + "/live/cam.flv",
			}
			var wg sync.WaitGroup
			files := make(map[string]string)
			for kind, in := range inputs {
				file := filepath.Join(dir, kind+".mkv")
				files[kind] = file
				wg.Go(func() {
					_, log, err := peer.Try(t, time.Minute, "ffmpeg", "-nostdin", "-v", "error", "-rw_timeout", "30000000", "-i", in, "-t", "2", "-c", "copy", "-y", file)
					if err != nil {
						t.Errorf("%s: %v\n%s", kind, err, log)
					}
				})
			}
			slt, sltFile := transmit(t, s.srt+"?streamid=live/cam"+c.play)
			hls := filepath.Join(dir, "hls.mkv")
			wg.Go(func() {
				_, log, err := peer.Try(t, time.Minute, "ffmpeg", "-nostdin", "-v", "error", "-i", s.http+"/live/cam.m3u8", "-t", "1", "-c", "copy", "-y", hls)
				if err != nil {
					t.Errorf("HLS: %v\n%s", err, log)
				}
			})
			peer.Eventually(t, 20*time.Second, "three connections", func() bool {
				seen := 0
				for c := range s.in.SRTConns() {
					require.Equal(t, "live/cam", c.Stream)
					require.NotEmpty(t, c.Session)
					if c.Stats.PktRecv+c.Stats.PktSent > 0 {
						seen++
					}
				}
				return seen == 3
			})
			wg.Wait()
			require.NoError(t, pub.Wait(t, 20*time.Second))
			_ = slt.Wait(t, 20*time.Second)
			for _, file := range files {
				checkMedia(t, file, 40)
			}
			checkMedia(t, hls, 10)
			checkMedia(t, sltFile, 40)
		})
	}
}

// A stream of RTMP plays over SRT: SRS can't do that.
func TestRTMPPlaysOverSRT(t *testing.T) {
	s := startServer(t, auth.AllowAll, ingest.SRT{})
	slt, file := transmit(t, s.srt+"?streamid=live/cam")
	peer.Run(t, time.Minute, "ffmpeg", "-nostdin", "-v", "error", "-re", "-i", lab.Clip(t, peer.AV), "-c", "copy", "-f", "flv", s.rtmp+"/live/cam")
	_ = slt.Wait(t, 20*time.Second)
	checkMedia(t, file, 100)
}

// Passphrases are the authorizer's, stream by stream; what is wrong is refused in
// SRT's words, which srt-live-transmit prints.
func TestPassphrasePerStream(t *testing.T) {
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
	try := func(options string) string {
		p := peer.Start(t, "srt-live-transmit", "-a", "no", "-loglevel", "warning", "-t", "1", s.srt+"?"+options, "file://con")
		defer p.Kill()
		said := ""
		peer.Eventually(t, 10*time.Second, "an answer to "+options, func() bool {
			said = p.Log()
			return !p.Running() || strings.Contains(said, "REJECT")
		})
		return said
	}
	require.Contains(t, try("streamid=live/cam&passphrase=passphrase of cat"), "Incorrect passphrase")
	require.Contains(t, try("streamid=live/cam"), "Application-defined rejection", "not authorized")
	require.Contains(t, try("streamid=#!::r=live/open,m=publish&passphrase=passphrase of cam"), "Password required or unexpected")
	require.Contains(t, try("mode=caller"), "Application-defined rejection", "no stream id")

	slt, file := transmit(t, s.srt+"?streamid=live/cam&passphrase=passphrase of cam")
	pub := peer.Start(t, "ffmpeg", publishers["ffmpeg"](ts(t), s.srt, "?streamid=#!::r=live/cam,m=publish&passphrase=passphrase of cam")[1:]...)
	require.NoError(t, pub.Wait(t, 30*time.Second))
	_ = slt.Wait(t, 20*time.Second)
	checkMedia(t, file, 90)
}
