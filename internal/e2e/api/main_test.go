package api

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// lab holds the programs that the tests share.
var lab *peer.Lab

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if lab, err = peer.NewLab(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer lab.Close()
	if err := flag.Set("test.parallel", "6"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// live is how long anything may take that happens at once on an idle machine.
const live = 30 * time.Second

// program builds a program of this module.
func program(t testing.TB, name string) string {
	t.Helper()
	return lab.File(t, name+".exe", func(path string) {
		peer.Run(t, 5*time.Minute, "go", "build", "-C", "../../..", "-o", path, "./examples/"+name)
	})
}

// A mediaserver is examples/mediaserver as a process.
type mediaserver struct {
	*peer.Process
	rtmp, srt, http string // addresses
	rtmps           string // only with -cert
	token           string // of the API; "": none is needed from here
}

// startMediaserver starts one with more flags.
func startMediaserver(t *testing.T, flags ...string) *mediaserver {
	t.Helper()
	m := &mediaserver{rtmp: peer.FreeAddr(t), srt: peer.FreeAddr(t), http: peer.FreeAddr(t), rtmps: peer.FreeAddr(t)}
	m.Process = peer.StartIn(t, t.TempDir(), nil, program(t, "mediaserver"), append([]string{"-rtmp", m.rtmp, "-rtmps", m.rtmps, "-srt", m.srt, "-webrtc", "", "-http", m.http}, flags...)...)
	peer.Eventually(t, live, "an answer at "+m.http, func() bool {
		if !m.Running() {
			t.Fatalf("mediaserver ended: %s", m.Log())
		}
		r, err := http.Get("http://" + m.http + "/readyz")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	return m
}

// call asks the API, and decodes the answer unless into is nil.
func (m *mediaserver) call(t *testing.T, method, path, body string, into any) int {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+m.http+path, bytes.NewReader([]byte(body)))
	require.NoError(t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if m.token != "" {
		req.Header.Set("Authorization", "Bearer "+m.token)
	}
	r, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	if into != nil {
		require.NoError(t, json.Unmarshal(text, into), "%s %s: %s", method, path, text)
	}
	return r.StatusCode
}

// push starts an ffmpeg that publishes a clip at its own speed without end.
func push(t *testing.T, format, url string) *peer.Process {
	t.Helper()
	return peer.Start(t, "ffmpeg", "-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i", lab.Clip(t, peer.AV), "-c", "copy", "-f", format, url)
}

// play starts an ffmpeg that reads a URL to its end.
func play(t *testing.T, url string) *peer.Process {
	t.Helper()
	return peer.Start(t, "ffmpeg", "-nostdin", "-v", "error", "-i", url, "-map", "0", "-c", "copy", "-f", "null", os.DevNull)
}

// file writes a file in a folder of the test's.
func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// certificate makes one for a name, which nobody else has signed.
func certificate(t *testing.T, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	of := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, of, of, private.Public(), private)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return file(t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		file(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
}
