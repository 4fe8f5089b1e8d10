package main

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/acme/autocert"

	"github.com/runnel-media/runnel/internal/config"
)

// tlsOptions are the flags of certificates.
type tlsOptions struct {
	cert, key string
	domains   config.List
	dir       string

	files   certificateFiles
	manager *autocert.Manager // nil: -cert and -key
}

func (o *tlsOptions) flags(fs *flag.FlagSet) {
	fs.StringVar(&o.cert, "cert", "", "TLS certificate, a PEM file; read again when it changes")
	fs.StringVar(&o.key, "key", "", "its private key, a PEM file")
	fs.Var(&o.domains, "autocert", "name to get a certificate for from Let's Encrypt, in place of -cert, which agrees to its terms; may be repeated; the name has to lead to -https on port 443 or -http on port 80")
	fs.StringVar(&o.dir, "autocert-dir", "certificates", "directory that keeps the keys and certificates of -autocert")
}

// check says what does not go together.
func (o *tlsOptions) check(https string) error {
	switch {
	case (o.cert == "") != (o.key == ""):
		return errors.New("-cert and -key go together")
	case o.cert != "" && len(o.domains) > 0:
		return errors.New("-autocert stands in place of -cert")
	case https != "" && !o.on():
		return errors.New("-https needs -cert and -key, or -autocert")
	}
	return nil
}

// on reports whether there are certificates.
func (o *tlsOptions) on() bool { return o.cert != "" || len(o.domains) > 0 }

// config returns the configuration of servers without their protocols, nil if
// there are no certificates.
func (o *tlsOptions) config(log *slog.Logger) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case len(o.domains) > 0:
		for _, d := range o.domains {
			if net.ParseIP(d) != nil {
				return nil, fmt.Errorf("-autocert: %q is no name", d)
			}
		}
		o.manager = &autocert.Manager{Prompt: autocert.AcceptTOS, HostPolicy: autocert.HostWhitelist(o.domains...), Cache: autocert.DirCache(o.dir)}
		c.GetCertificate = o.manager.GetCertificate
	case o.cert != "":
		o.files = certificateFiles{cert: o.cert, key: o.key, log: log}
		if err := o.files.load(); err != nil {
			return nil, err
		}
		c.GetCertificate = o.files.get
	default:
		return nil, nil
	}
	return c, nil
}

// protocols are those that HTTPS offers in TLS: with -autocert also that by
// which a name is proved.
func (o *tlsOptions) protocols() []string {
	list := []string{"h2", "http/1.1"}
	if o.manager != nil {
		list = append(list, "acme-tls/1")
	}
	return list
}

// routes answers proofs of names by HTTP before next.
func (o *tlsOptions) routes(next http.Handler) http.Handler {
	if o.manager == nil {
		return next
	}
	return o.manager.HTTPHandler(next)
}

// certificateFiles are a certificate that is read again when its files have
// changed, which is looked at once a second at most, when somebody connects.
type certificateFiles struct {
	cert, key string
	log       *slog.Logger

	mu      sync.Mutex
	now     *tls.Certificate
	seen    [2]os.FileInfo
	checked time.Time
}

// load reads the files.
func (f *certificateFiles) load() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen, err := f.stat()
	if err != nil {
		return err
	}
	return f.read(seen)
}

func (f *certificateFiles) stat() (seen [2]os.FileInfo, err error) {
	for i, name := range []string{f.cert, f.key} {
		if seen[i], err = os.Stat(name); err != nil {
			return seen, err
		}
	}
	return seen, nil
}

func (f *certificateFiles) read(seen [2]os.FileInfo) error {
	cert, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return err
	}
	f.now, f.seen = &cert, seen
	return nil
}

// get is for tls.Config. Files that do not go together, as when one has been
// replaced and the other not yet, change nothing; they are tried again.
func (f *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.checked) < time.Second {
		return f.now, nil
	}
	f.checked = time.Now()
	seen, err := f.stat()
	if err == nil && same(seen[0], f.seen[0]) && same(seen[1], f.seen[1]) {
		return f.now, nil
	}
	if err == nil {
		err = f.read(seen)
	}
	if err != nil {
		f.log.Error("certificate: the one of before stays", "err", err)
	} else {
		f.log.Info("certificate read again", "file", f.cert)
	}
	return f.now, nil
}

func same(a, b os.FileInfo) bool {
	return a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && os.SameFile(a, b)
}
