package deliver

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/hls/hlscheck"
)

// individuals lets users in whose name is their token.
func individuals(expires time.Duration) auth.Authorizer {
	return auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
		if r.Token == "" {
			return nil, auth.ErrDenied
		}
		g := &auth.Grant{User: r.Token}
		if expires > 0 {
			g.Expires = time.Now().Add(expires)
		}
		return g, nil
	})
}

func TestHLSIndividual(t *testing.T) {
	inHLSBed(t, func(b *hlsBed) { b.srv.Auth = individuals(0) }, func(t *testing.T, b *hlsBed) {
		defer b.source("live/x")()
		defer b.source("live/y")()
		require.Equal(t, 401, b.do("GET", "/live/x.m3u8").status)
		require.Equal(t, 401, b.do("GET", "/live/x/_hls/live/v.m3u8").status, "no way past the question")
		ann, _ := b.playlists("/live/x.m3u8?token=ann")
		bob, _ := b.playlists("/live/x.m3u8", "Authorization", "Bearer bob")
		require.NotEqual(t, ann, bob)
		require.Equal(t, "private, no-cache", b.get(ann).header.Get("Cache-Control"))
		require.Equal(t, "private, no-store", b.get("/live/x.m3u8?token=eve").header.Get("Cache-Control"))
		require.Equal(t, b.get(ann).body, b.get(bob).body)
		require.Len(t, b.sessions(), 3)

		// Forgery.
		dir, file := path.Split(ann)
		token := path.Base(dir)
		for _, forged := range []string{
			token + "a", token[:len(token)-1], strings.Replace(token, ".", ".9", 1), token[1:], strings.ToLower(token),
			strings.Split(token, ".")[0], strings.Split(token, ".")[0] + "..",
		} {
			require.Equal(t, 403, b.do("GET", "/live/x/_hls/"+forged+"/"+file).status, forged)
		}
		require.Equal(t, 403, b.do("GET", "/live/y/_hls/"+token+"/"+file).status, "another stream's")

		// A kick.
		for _, s := range b.sessions() {
			if s.Info().User == "ann" {
				s.Kick(nil)
			}
		}
		require.Equal(t, 403, b.do("GET", ann).status)
		require.Equal(t, 200, b.do("GET", bob).status)
		time.Sleep(5 * time.Second)
		require.Equal(t, 403, b.do("GET", ann).status)

		// Who stays away is not counted, and may come back.
		b.get(bob)
		time.Sleep(15 * time.Second)
		require.Empty(t, b.sessions())
		b.get(bob)
		require.Len(t, b.sessions(), 1)
		require.Equal(t, "bob", b.sessions()[0].Info().User)
		time.Sleep(11 * time.Minute)
		require.Equal(t, 403, b.do("GET", bob).status)
	})
	inHLSBed(t, func(b *hlsBed) { b.srv.Auth = individuals(20 * time.Second) }, func(t *testing.T, b *hlsBed) {
		defer b.source("live/x")()
		ann, _ := b.playlists("/live/x.m3u8?token=ann")
		for range 8 {
			b.get(ann)
			time.Sleep(2 * time.Second)
		}
		time.Sleep(5 * time.Second)
		require.Equal(t, 403, b.do("GET", ann).status, "expired")
		require.Empty(t, b.sessions())
	})
}

func TestHLSShared(t *testing.T) {
	asked := 0
	inHLSBed(t, func(b *hlsBed) {
		b.srv.Auth = auth.Func(func(context.Context, *auth.Request) (*auth.Grant, error) { asked++; return nil, nil })
		b.srv.MaxPlayers = 2
	}, func(t *testing.T, b *hlsBed) {
		defer b.source("v.example/live/x")()
		video, _ := b.playlists("/live/x.m3u8?vhost=v.example")
		for range 5 {
			b.get(video)
			time.Sleep(time.Second)
		}
		b.agent = "other"
		b.get(video)
		require.Equal(t, 2, asked, "once for each viewer")
		require.Len(t, b.sessions(), 2)
		b.agent = "third"
		require.Equal(t, 503, b.do("GET", video).status)
		for _, s := range b.sessions() {
			s.Kick(nil)
		}
		b.agent = "other"
		require.Equal(t, 403, b.do("GET", video).status)
		b.playlists("/live/x.m3u8?vhost=v.example")
		require.Equal(t, 200, b.do("GET", video).status, "it asked again")
		time.Sleep(20 * time.Second)
		require.Empty(t, b.sessions())
	})
}

func TestHLSEncrypted(t *testing.T) {
	inHLSBed(t, func(b *hlsBed) {
		b.srv.Auth = individuals(0)
		b.srv.HLS.Encrypt = true
		b.srv.HLS.KeySegments = 1
	}, func(t *testing.T, b *hlsBed) {
		defer b.source("live/x")()
		ref, _ := b.playlists("/live/x.m3u8?format=ts&token=ann")
		time.Sleep(4 * time.Second)
		a := b.get(ref)
		p, found := hlscheck.Media(a.body)
		require.Empty(t, found)
		keys := map[string]bool{}
		for _, seg := range p.Segments[1:] {
			if !seg.Complete() {
				continue
			}
			keyRef := resolve(t, ref, seg.Key.URI)
			keys[keyRef] = true
			key := b.get(keyRef)
			require.Equal(t, "private, no-store", key.header.Get("Cache-Control"))
			require.Len(t, key.body, 16)
			media := b.get(resolve(t, ref, seg.URI)).body
			block, err := aes.NewCipher(key.body)
			require.NoError(t, err)
			iv := make([]byte, 16)
			iv[14], iv[15] = byte(seg.Sequence>>8), byte(seg.Sequence)
			cipher.NewCBCDecrypter(block, iv).CryptBlocks(media, media)
			media = media[:len(media)-int(media[len(media)-1])]
			require.Zero(t, len(media)%188)
			require.Equal(t, byte(0x47), media[188])
			require.Equal(t, 401, b.do("GET", "/live/x/_hls/live/"+path.Base(keyRef)).status)
			require.Equal(t, 403, b.do("GET", "/live/x/_hls/guess/"+path.Base(keyRef)).status)
		}
		require.NotEmpty(t, keys)
		b.sessions()[0].Kick(nil)
		for ref := range keys {
			require.Equal(t, 403, b.do("GET", ref).status)
		}
		require.Equal(t, 415, b.do("GET", "/live/x.mpd?token=ann").status)
	})
}
