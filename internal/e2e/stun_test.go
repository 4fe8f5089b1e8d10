package e2e

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
	"github.com/runnel-media/runnel/stun"
)

// startSTUN runs a server for NAT behaviour discovery on two loopback
// addresses, and one for plain STUN, and returns where they are.
func startSTUN(t *testing.T) (discovery [4]netip.AddrPort, plain, plain6 netip.AddrPort) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8")
	}
	sockets, err := stun.ListenNAT(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort("127.0.0.2:0"))
	require.NoError(t, err)
	for i, pc := range sockets {
		discovery[i] = pc.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	var s stun.Server
	calls := []func() error{func() error { return s.ServeNAT(sockets) }}
	for at, to := range map[string]*netip.AddrPort{"127.0.0.1:0": &plain, "[::1]:0": &plain6} {
		pc, err := net.ListenPacket("udp", at)
		require.NoError(t, err)
		*to = pc.LocalAddr().(*net.UDPAddr).AddrPort()
		calls = append(calls, func() error { return s.ServePacket(pc) })
	}
	ended := make(chan error, len(calls))
	for _, serve := range calls {
		go func() { ended <- serve() }()
	}
	t.Cleanup(func() {
		s.Close()
		for range calls {
			require.ErrorIs(t, <-ended, stun.ErrServerClosed)
		}
	})
	return discovery, plain, plain6
}

func port(ap netip.AddrPort) string { return strconv.Itoa(int(ap.Port())) }

// fields returns what a client of coturn's printed behind a label, once for
// each line that has it.
func fields(log []byte, label string) (values []string) {
	for _, m := range regexp.MustCompile(regexp.QuoteMeta(label)+`(?:: )+(\S+)`).FindAllSubmatch(log, -1) {
		values = append(values, string(m[1]))
	}
	return values
}

// TestCoturnStunclient: coturn's client learns its address, and through all
// the changes of RFC 5780 from where it should.
func TestCoturnStunclient(t *testing.T) {
	t.Parallel()
	peer.Need(t, "turnutils_stunclient")
	discovery, plain, plain6 := startSTUN(t)
	run := func(args ...string) []byte { return peer.Run(t, 30*time.Second, "turnutils_stunclient", args...) }

	for _, to := range []netip.AddrPort{plain, plain6} {
		out := run("-p", port(to), to.Addr().String())
		mapped := fields(out, "UDP reflexive addr")
		require.NotEmpty(t, mapped, "%s", out)
		colon := strings.LastIndexByte(mapped[0], ':') // it prints IPv6 without brackets
		require.Equal(t, to.Addr().String(), mapped[0][:colon])
		require.NotEqual(t, "0", mapped[0][colon+1:])
		require.NotContains(t, string(out), "RFC 5780", "it is off")
	}

	// It asks for the alternate address and port twice, from two ports.
	out := run("-f", "-p", port(discovery[stun.Primary]), "127.0.0.1")
	require.Contains(t, string(out), "RFC 5780 response 3", "%s", out)
	origins := fields(out, "Response origin")
	require.Contains(t, origins, discovery[stun.Primary].String())
	require.Contains(t, origins, discovery[stun.Alternate].String())
	others := fields(out, "Other addr")
	require.Len(t, others, 3)
	for _, other := range others {
		require.Equal(t, discovery[stun.Alternate].String(), other)
	}
	mapped := fields(out, "UDP reflexive addr")
	require.Len(t, mapped, 3, "%s", out)
	require.Equal(t, mapped[0], mapped[1])
	require.NotEqual(t, mapped[0], mapped[2])
}

// TestCoturnNATDiscovery: coturn's client finds no NAT on the loopback
// interface, as does ours, with padding that makes fragments of large packets
// too.
func TestCoturnNATDiscovery(t *testing.T) {
	t.Parallel()
	peer.Need(t, "turnutils_natdiscovery")
	discovery, _, _ := startSTUN(t)
	for name, args := range map[string][]string{"plain": {"-m", "-f"}, "padded": {"-m", "-f", "-P"}} {
		t.Run(name, func(t *testing.T) {
			out := string(peer.Run(t, 60*time.Second, "turnutils_natdiscovery", append(args, "-p", port(discovery[stun.Primary]), "127.0.0.1")...))
			require.Contains(t, out, "NAT with Endpoint Independent Mapping!")
			require.Contains(t, out, "NAT with Endpoint Independent Filtering!")
			require.Contains(t, out, "No ALG: Mapped == XOR-Mapped")
			require.Contains(t, out, "RFC 5780 response 4")
			origins := fields([]byte(out), "Response origin")
			// Mapping asks the alternate address with the primary port, filtering
			// wants the answer from the alternate of both.
			require.Contains(t, origins, discovery[stun.AlternateAddress].String())
			require.Contains(t, origins, discovery[stun.Alternate].String())
		})
	}
	t.Run("hairpin", func(t *testing.T) {
		out := string(peer.Run(t, 60*time.Second, "turnutils_natdiscovery", "-H", "-p", port(discovery[stun.Primary]), "127.0.0.1"))
		require.Contains(t, out, "Received a request (maybe a successful hairpinning)")
	})
}

// freePair returns a loopback address that is free for UDP and TCP, as is its
// next port, and that no outgoing connection is given meanwhile.
func freePair(t *testing.T) netip.AddrPort {
	t.Helper()
	loopback := netip.MustParseAddr("127.0.0.1")
	free := func(port int) bool {
		at := netip.AddrPortFrom(loopback, uint16(port)).String()
		l, err := net.Listen("tcp", at)
		if err != nil {
			return false
		}
		defer l.Close()
		pc, err := net.ListenPacket("udp", at)
		if err != nil {
			return false
		}
		pc.Close()
		return true
	}
	for range 100 {
		if port := 10000 + rand.IntN(20000); free(port) && free(port+1) {
			return netip.AddrPortFrom(loopback, uint16(port))
		}
	}
	t.Fatal("no free ports")
	return netip.AddrPort{}
}

// TestCoturnServer: our client and Discover against coturn's server.
func TestCoturnServer(t *testing.T) {
	t.Parallel()
	server := peer.Need(t, "turnserver")
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8")
	}
	at := freePair(t)
	args := []string{"-n", "--no-tls", "--no-dtls", "--no-cli", "--no-auth", "--log-file=stdout",
		"--pidfile", t.TempDir() + "/pid", "--userdb", t.TempDir() + "/db",
		"-L", "127.0.0.1", "-L", "127.0.0.2", "-p", port(at)}
	if help, _, _ := peer.Try(t, live, server, "--help"); strings.Contains(string(help), " --rfc5780") {
		args = append(args, "--rfc5780") // off by default since 4.7
	}
	p := peer.Start(t, server, args...)
	conn, err := net.Dial("udp", at.String())
	require.NoError(t, err)
	defer conn.Close()
	peer.Eventually(t, live, "coturn's answer", func() bool {
		if !p.Running() {
			t.Fatal("turnserver has ended")
		}
		mapped, err := (&stun.Client{Requests: 1, LastWait: 1}).Binding(t.Context(), conn)
		return err == nil && mapped.String() == conn.LocalAddr().String()
	})
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer pc.Close()
	second, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer second.Close()
	nat, err := stun.Discover(t.Context(), pc, at, &stun.DiscoverOptions{Hairpin: second})
	require.NoError(t, err)
	require.Equal(t, stun.NAT{Local: nat.Local, Mapped: nat.Local, Mapping: stun.EndpointIndependent, Filtering: stun.EndpointIndependent, Hairpin: true}, *nat)

	tcp, err := net.Dial("tcp", at.String())
	require.NoError(t, err)
	defer tcp.Close()
	mapped, err := new(stun.Client).Binding(t.Context(), tcp)
	require.NoError(t, err)
	require.Equal(t, tcp.LocalAddr().String(), mapped.String())
}
