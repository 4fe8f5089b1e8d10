package relay

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// authority issues certificates for both ends.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, pool: x509.NewCertPool()}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "cluster"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &a.key.PublicKey, a.key)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) issue(name string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	require.NoError(a.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Servers know each other by certificates, and speak HTTP/2. The clock on the
// frames is the origin's.
func TestMutualTLS(t *testing.T) {
	ca := newAuthority(t)
	log := slog.New(slog.DiscardHandler)
	hub := &stream.Hub{Log: log}
	defer hub.Close()
	var proto atomic.Int32
	origin := &Relay{Hub: hub, Log: log, ID: "origin", Auth: auth.Func(func(_ context.Context, q *auth.Request) (*auth.Grant, error) {
		if q.TLS == nil || len(q.TLS.PeerCertificates) == 0 || q.TLS.PeerCertificates[0].Subject.CommonName != "edge" {
			return nil, auth.ErrDenied
		}
		return nil, nil
	})}
	defer origin.Close()
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		proto.Store(int32(q.ProtoMajor))
		origin.ServeHTTP(w, q)
	}))
	web.EnableHTTP2 = true
	web.TLS = &tls.Config{Certificates: []tls.Certificate{ca.issue("origin")}, ClientCAs: ca.pool, ClientAuth: tls.RequireAndVerifyClientCert}
	web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	web.StartTLS()
	defer web.Close()
	defer web.CloseClientConnections()
	go (&streamtest.Source{}).Run(t.Context(), hub, "live/cam")

	edge := func(config *tls.Config) (*stream.Subscriber, error) {
		r := &Relay{Hub: &stream.Hub{Log: log}, Log: log, Origins: []string{"runnels://" + web.Listener.Addr().String()}, TLS: config}
		r.Hub.Source = r
		t.Cleanup(func() { r.Hub.Close(); r.Close() })
		return r.Hub.Subscribe(t.Context(), "live/cam", nil)
	}
	_, err := edge(&tls.Config{RootCAs: ca.pool})
	require.ErrorIs(t, err, stream.ErrNotFound, "without a certificate")
	_, err = edge(&tls.Config{RootCAs: ca.pool, Certificates: []tls.Certificate{ca.issue("stranger")}})
	require.ErrorIs(t, err, auth.ErrDenied)
	_, err = edge(&tls.Config{RootCAs: newAuthority(t).pool, Certificates: []tls.Certificate{ca.issue("edge")}})
	require.ErrorIs(t, err, stream.ErrNotFound, "an origin of another authority")
	sub, err := edge(&tls.Config{RootCAs: ca.pool, Certificates: []tls.Certificate{ca.issue("edge")}})
	require.NoError(t, err)
	take(t, sub, 100)
	require.EqualValues(t, 2, proto.Load())
	require.NoError(t, sub.Close())
}

// A hop is what a frame takes from one hub to the next; its p99 is reported.
func BenchmarkHop(b *testing.B) {
	log := slog.New(slog.DiscardHandler)
	origin := &Relay{Hub: &stream.Hub{Log: log}, Log: log, Auth: auth.AllowAll}
	defer origin.Hub.Close()
	web := httptest.NewServer(origin)
	defer web.Close()
	edge := &Relay{Hub: &stream.Hub{Log: log}, Log: log, Origins: []string{"runnel://" + web.Listener.Addr().String()}}
	edge.Hub.Source = edge
	defer edge.Close()
	defer edge.Hub.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go (&streamtest.Source{Speed: 4}).Run(ctx, origin.Hub, "live/cam")
	for origin.Hub.Stream("live/cam") == nil {
		time.Sleep(time.Millisecond)
	}
	sub, err := edge.Hub.Subscribe(ctx, "live/cam", &stream.SubscribeOptions{Live: true})
	require.NoError(b, err)
	defer sub.Close()
	var hop stream.Histogram
	var one [1]*stream.Frame
	for b.Loop() {
		_, err := sub.Read(ctx, one[:])
		require.NoError(b, err)
		hop.Observe(one[0].Arrived().Sub(one[0].Time), 1)
	}
	b.ReportMetric(float64(hop.Quantile(0.5).Microseconds()), "µs-p50")
	b.ReportMetric(float64(hop.Quantile(0.99).Microseconds()), "µs-p99")
	b.ReportMetric(0, "ns/op")
}
