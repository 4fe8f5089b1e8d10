package main

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pion/dtls/v3"
	pionturn "github.com/pion/turn/v5"
)

// The TURN servers.
const (
	turnCoturn = "coturn"
	turnPion   = "pion/turn"
	turnRunnel = "runnel"
)

// A turnServer is a process with UDP and TCP on one port, TLS and DTLS on
// another.
type turnServer struct {
	*process
	plain, secure string
}

func (s *turnServer) addr(via string) string {
	if via == viaTLS || via == viaDTLS {
		return s.secure
	}
	return s.plain
}

// startTurn starts one of the servers, each as its documentation starts it
// with a user, a certificate and loopback peers allowed.
func (t *turnBench) startTurn(ctx context.Context, name string) (*turnServer, error) {
	plain, err := freeAddr()
	if err != nil {
		return nil, err
	}
	secure, err := freeAddr()
	if err != nil {
		return nil, err
	}
	var cmd *exec.Cmd
	switch name {
	case turnCoturn:
		port := func(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
		args := []string{
			"-n", "--no-cli", "-L", "127.0.0.1", "-p", port(plain), "--tls-listening-port", port(secure), "-E", "127.0.0.1",
			"-a", "-u", turnUser + ":" + turnPassword, "-r", turnRealm, "--allow-loopback-peers",
			"--cert", t.cert, "--pkey", t.key, "--no-stdout-log", "--simple-log", "-l", filepath.Join(t.dir, "coturn.log"),
			"--pidfile", filepath.Join(t.dir, "coturn.pid"), "--db", filepath.Join(t.dir, "turndb"),
		}
		cmd = exec.Command(t.coturn, append(args, strings.Fields(t.coturnArgs)...)...) //nolint:noctx // the family ends it
	case turnPion:
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		cmd = exec.Command(self, "pionturn", "-plain", plain, "-secure", secure, "-cert", t.cert, "-key", t.key) //nolint:noctx // the family ends it
	case turnRunnel:
		args := []string{
			"-listen", plain, "-tls", secure, "-cert", t.cert, "-key", t.key, "-realm", turnRealm,
			"-user", turnUser + ":" + turnPassword, "-relay-ip", "127.0.0.1", "-allow-loopback-peers",
			"-log-file", filepath.Join(t.dir, "runnel.log"),
		}
		cmd = exec.Command(t.runnel, append(args, strings.Fields(t.runnelArgs)...)...) //nolint:noctx // the family ends it
	default:
		return nil, fmt.Errorf("bench: no server %q", name)
	}
	p, err := t.family.Start(cmd)
	if err != nil {
		return nil, err
	}
	s := &turnServer{process: p, plain: plain, secure: secure}
	// coturn prepares its relay ports for some seconds.
	err = waitFor(ctx, name+" allocating", 20*time.Second, func() bool { return s.allocates() }, p)
	if err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// allocates tries an allocation, over TCP, which says no if nobody is there.
func (s *turnServer) allocates() bool {
	c, err := dialTurn(s.plain, viaTCP, netip.MustParseAddr("127.0.0.1"), time.Second)
	if err != nil {
		return false
	}
	defer c.close()
	return c.allocate() == nil
}

// writeCert makes a certificate for the servers.
func writeCert(dir string) (certFile, keyFile string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: turnRealm}, DNSNames: []string{turnRealm},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return "", "", err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", err
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	err = errors.Join(
		os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o644), // coturn drops its rights before it reads
	)
	return certFile, keyFile, err
}

// findProgram returns where a program of /usr/sbin or the path is.
func findProgram(name string) string {
	for _, path := range []string{name, "/usr/sbin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	return name
}

// buildTurnServer builds examples/turnserver. The working directory is to be
// in the module.
func buildTurnServer(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "turnserver")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/runnel-media/runnel/examples/turnserver").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("bench: go build ./examples/turnserver: %w\n%s", err, out)
	}
	return path, nil
}

// coturnVersion returns what the program calls itself.
func coturnVersion(ctx context.Context, program string) string {
	out, _ := exec.CommandContext(ctx, program, "--version").CombinedOutput() // some versions fail for it
	for word := range strings.FieldsSeq(string(out)) {
		if _, err := strconv.Atoi(word[:1]); err == nil && strings.Count(word, ".") == 2 {
			return "coturn " + word
		}
	}
	return "coturn"
}

// runPionTurn is the smallest server that pion/turn makes: its documentation's,
// with a listener for each transport.
func runPionTurn(ctx context.Context, args []string, _ io.Reader, _, log io.Writer) error {
	fs := flag.NewFlagSet("bench pionturn", flag.ContinueOnError)
	fs.SetOutput(log)
	plain := fs.String("plain", "", "address of UDP and TCP")
	secure := fs.String("secure", "", "address of TLS and DTLS")
	certFile := fs.String("cert", "", "PEM")
	keyFile := fs.String("key", "", "PEM")
	if err := fs.Parse(args); err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(*certFile, *keyFile)
	if err != nil {
		return err
	}
	lc := new(net.ListenConfig)
	pc, err1 := lc.ListenPacket(ctx, "udp", *plain)
	tcp, err2 := lc.Listen(ctx, "tcp", *plain)
	over, err3 := lc.Listen(ctx, "tcp", *secure)
	at, err4 := netip.ParseAddrPort(*secure)
	if err := cmp.Or(err1, err2, err3, err4); err != nil {
		return err
	}
	dl, err := dtls.ListenWithOptions("udp", net.UDPAddrFromAddrPort(at), dtls.WithCertificates(cert))
	if err != nil {
		return err
	}
	relays := &pionturn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"}
	key := pionturn.GenerateAuthKey(turnUser, turnRealm, turnPassword)
	server, err := pionturn.NewServer(pionturn.ServerConfig{
		Realm:             turnRealm,
		PacketConnConfigs: []pionturn.PacketConnConfig{{PacketConn: pc, RelayAddressGenerator: relays}},
		ListenerConfigs: []pionturn.ListenerConfig{
			{Listener: tcp, RelayAddressGenerator: relays},
			{Listener: tls.NewListener(over, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}), RelayAddressGenerator: relays},
			{Listener: dl, RelayAddressGenerator: relays},
		},
		AuthHandler: func(a *pionturn.RequestAttributes) (string, []byte, bool) {
			return a.Username, key, a.Username == turnUser
		},
	})
	if err != nil {
		return err
	}
	<-ctx.Done()
	return server.Close()
}
