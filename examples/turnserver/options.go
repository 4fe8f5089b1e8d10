package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/runnel-media/runnel/api/access"
	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/config"
	"github.com/runnel-media/runnel/turn"
)

// An action is what a signal asks for.
type action int

const (
	reload action = iota
	reloadCertificates
	drain
)

// options are the flags, with what -config adds.
type options struct {
	listen, tls      config.List
	cert, key        string
	tlsMin           string
	ciphers          config.List
	proxyFrom        config.List
	realm            string
	users, secrets   config.List
	restSeparator    string
	db               string
	oauth            bool
	serverName       string
	relayIP, extIP   config.List
	minPort, maxPort uint
	allow, deny      []auth.IPRange
	loopbackPeers    bool
	rfc5780          bool
	rfc5766          bool
	mobility         bool
	alternates       config.List
	cluster          clusterOptions
	noUDPRelay       bool
	noTCPRelay       bool
	userQuota, quota int
	maxBPS, capacity int64
	nonceLife        time.Duration
	maxLifetime      time.Duration
	permissionLife   time.Duration
	channelLife      time.Duration
	nonceSecret      string
	metrics          string
	coturnMetrics    bool
	statsdb          string
	admin            string
	adminToken       config.List
	logLevel         slog.Level
	logFile          string
	logFormat        string
	syslog           bool
	config           string

	values  map[string]string // of all flags, as text
	unknown []string          // directives of -config
}

// flags binds the flags to o.
func (o *options) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("turnserver", flag.ContinueOnError)
	fs.Var(&o.listen, "listen", "address for STUN and TURN over UDP and TCP; repeatable (default :3478)")
	fs.Var(&o.tls, "tls", "address for TLS and DTLS, with -cert; repeatable (default :5349 with -cert)")
	fs.StringVar(&o.cert, "cert", "", "certificate chain, a PEM file; read again at SIGUSR2 and SIGHUP")
	fs.StringVar(&o.key, "key", "", "its private key, a PEM file")
	fs.StringVar(&o.tlsMin, "tls-min", "1.2", "least TLS version, 1.2 or 1.3")
	fs.Var(&o.ciphers, "cipher", "TLS 1.2 cipher suite by its IANA name; repeatable (default Go's)")
	fs.Var(&o.proxyFrom, "proxy-from", "prefix or address of load balancers whose PROXY headers (v1, v2; TCP and UDP) count; repeatable")
	fs.StringVar(&o.realm, "realm", "runnel", "realm of the credentials")
	fs.Var(&o.users, "user", "a user as name:password, or name:0x and the MD5 key in hexadecimal; repeatable")
	fs.Var(&o.secrets, "secret", "shared secret for time-limited credentials (REST API); several are tried in turn; repeatable")
	fs.StringVar(&o.restSeparator, "rest-separator", ":", "between the time and the name of such credentials")
	fs.StringVar(&o.db, "db", "", "database with coturn's schema: redis://…, postgres://…, mysql://…, sqlite:///FILE")
	fs.BoolVar(&o.oauth, "oauth", false, "take access tokens (RFC 7635); the keys come from -db")
	fs.StringVar(&o.serverName, "server-name", "", "this server's name for access tokens (default the realm)")
	fs.Var(&o.relayIP, "relay-ip", "address to relay from; repeatable (default the one that the client came to)")
	fs.Var(&o.extIP, "external-ip", "public address that clients are told, as PUBLIC or PUBLIC/RELAY; repeatable")
	fs.UintVar(&o.minPort, "min-port", 49152, "first relay port")
	fs.UintVar(&o.maxPort, "max-port", 65535, "last relay port")
	fs.Func("allow-peer", "peers that are relayed to although their address is private or special: CIDR, address or a-b; repeatable", addRange(&o.allow))
	fs.Func("deny-peer", "peers that are never relayed to; repeatable", addRange(&o.deny))
	fs.BoolVar(&o.loopbackPeers, "allow-loopback-peers", false, "relay to loopback addresses, for tests")
	fs.BoolVar(&o.rfc5780, "rfc5780", false, "NAT behaviour discovery; needs two -listen addresses of a family")
	fs.BoolVar(&o.rfc5766, "rfc5766-channels", false, "take channel numbers up to 0x7FFF, as old clients use")
	fs.BoolVar(&o.mobility, "mobility", false, "let clients move to a new address (RFC 8016)")
	fs.Var(&o.alternates, "alternate-server", "send clients to this address instead (300), as ADDRESS[:PORT][,weight=N]; repeatable")
	o.cluster.flags(fs)
	fs.BoolVar(&o.noUDPRelay, "no-udp-relay", false, "refuse allocations for UDP")
	fs.BoolVar(&o.noTCPRelay, "no-tcp-relay", false, "refuse allocations for TCP (RFC 6062)")
	fs.IntVar(&o.userQuota, "user-quota", 0, "allocations of a user at a time; 0: no bound")
	fs.IntVar(&o.quota, "total-quota", 0, "allocations of the realm at a time; 0: no bound")
	fs.Int64Var(&o.maxBPS, "max-bps", 0, "bytes a second of a session, each way; 0: no bound")
	fs.Int64Var(&o.capacity, "bps-capacity", 0, "bytes a second of the server, each way; 0: no bound")
	fs.DurationVar(&o.nonceLife, "stale-nonce", 10*time.Minute, "how long a nonce is taken")
	fs.StringVar(&o.nonceSecret, "nonce-secret", "", "16 bytes or more, shared by servers that are to take each other's nonces (default random)")
	fs.DurationVar(&o.maxLifetime, "max-lifetime", time.Hour, "most that a client can ask for without a refresh")
	fs.DurationVar(&o.permissionLife, "permission-lifetime", 5*time.Minute, "how long a permission lasts")
	fs.DurationVar(&o.channelLife, "channel-lifetime", 10*time.Minute, "how long a channel lasts")
	fs.StringVar(&o.metrics, "metrics", "", "address for Prometheus, at /metrics, and a health check at /; empty: off")
	fs.BoolVar(&o.coturnMetrics, "coturn-metrics", false, "name the metrics as coturn does")
	fs.StringVar(&o.statsdb, "statsdb", "", "redis://… to write coturn's statistics to")
	fs.StringVar(&o.admin, "admin", "", "address for the JSON API; needs -admin-token; empty: off")
	fs.Var(&o.adminToken, "admin-token", "bearer token of the JSON API, 16 characters or more, as SECRET, ROLE:SECRET or ROLE:sha256:HEX; repeatable")
	fs.TextVar(&o.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	fs.StringVar(&o.logFile, "log-file", "", "file to log to (default standard error); opened anew at SIGHUP")
	fs.StringVar(&o.logFormat, "log-format", "text", "text or json")
	fs.BoolVar(&o.syslog, "syslog", false, "log to the system's log")
	fs.StringVar(&o.config, "config", "", "a turnserver.conf of coturn's; flags win over it")
	return fs
}

// parse reads the flags, the environment behind them, and -config behind that.
func parse(args []string) (*options, error) {
	o := &options{values: map[string]string{}}
	fs := o.flags()
	if err := config.Parse(fs, args); err != nil {
		return nil, err
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if o.config != "" {
		text, err := os.ReadFile(o.config)
		if err != nil {
			return nil, err
		}
		c, err := readConf(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.config, err)
		}
		o.unknown = c.unknown
		for _, d := range c.settings {
			if given[d.flag] {
				continue
			}
			if err := fs.Set(d.flag, d.value); err != nil {
				return nil, fmt.Errorf("%s: line %d: %w", o.config, d.line, err)
			}
		}
	}
	fs.VisitAll(func(f *flag.Flag) { o.values[f.Name] = f.Value.String() })
	return o, o.check()
}

func (o *options) check() error {
	if len(o.listen) == 0 {
		o.listen = config.List{":3478"}
	}
	if len(o.tls) == 0 && o.cert != "" {
		o.tls = config.List{":5349"}
	}
	switch {
	case len(o.users) == 0 && len(o.secrets) == 0 && o.db == "":
		return errors.New("no credentials: -user, -secret or -db is needed, for an open relay is nobody's friend")
	case o.realm == "":
		return errors.New("-realm is empty")
	case (o.cert == "") != (o.key == ""):
		return errors.New("-cert and -key go together")
	case len(o.tls) > 0 && o.cert == "":
		return errors.New("-tls needs -cert and -key")
	case o.minPort == 0 || o.minPort > o.maxPort || o.maxPort > 65535:
		return errors.New("-min-port and -max-port: no range of ports")
	case o.oauth && o.db == "":
		return errors.New("-oauth needs -db, where its keys are")
	case (o.admin == "") != (len(o.adminToken) == 0):
		return errors.New("-admin and -admin-token go together")
	case o.tlsMin != "1.2" && o.tlsMin != "1.3":
		return errors.New("-tls-min is 1.2 or 1.3")
	case o.logFormat != "text" && o.logFormat != "json":
		return errors.New("-log-format is text or json")
	case o.nonceSecret != "" && len(o.nonceSecret) < 16:
		return errors.New("-nonce-secret is shorter than 16 bytes")
	case len(o.proxyFrom) > 0 && len(o.relayIP) == 0 && len(o.extIP) == 0:
		return errors.New("-proxy-from needs -relay-ip: clients have spoken to the load balancer's address, which is not ours")
	case len(o.restSeparator) != 1:
		return errors.New("-rest-separator is one character")
	}
	for _, s := range o.alternates {
		if _, err := alternate(s); err != nil {
			return err
		}
	}
	if _, err := o.admins(); err != nil {
		return err
	}
	if err := o.cluster.check(o); err != nil {
		return err
	}
	_, err := o.relays()
	return err
}

// admins are the tokens of the API.
func (o *options) admins() (list access.Tokens, err error) {
	for _, s := range o.adminToken {
		t, err := access.ParseToken(s)
		if err != nil {
			return nil, fmt.Errorf("-admin-token: %w", err)
		}
		list = append(list, t)
	}
	return list, nil
}

// thirdParty is what clients are told to ask for a token for. "": no tokens.
func (o *options) thirdParty() string {
	if !o.oauth {
		return ""
	}
	return cmp.Or(o.serverName, o.realm)
}

// relays makes the relay addresses of -relay-ip and -external-ip.
func (o *options) relays() (turn.RelayAllocator, error) {
	p := &turn.RelayPorts{Min: uint16(o.minPort), Max: uint16(o.maxPort)}
	for _, s := range o.relayIP {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("-relay-ip: %w", err)
		}
		p.Addrs = append(p.Addrs, turn.RelayAddr{Listen: a.Unmap()})
	}
	for _, s := range o.extIP {
		public, private, both := strings.Cut(s, "/")
		a, err := netip.ParseAddr(public)
		if err != nil {
			return nil, fmt.Errorf("-external-ip: %w", err)
		}
		a = a.Unmap()
		if !both {
			mapped := false
			for i := range p.Addrs {
				if r := &p.Addrs[i]; r.Listen.Is4() == a.Is4() && !r.Public.IsValid() {
					r.Public, mapped = a, true
				}
			}
			if !mapped {
				return nil, fmt.Errorf("-external-ip %s: there is no -relay-ip that it is for", s)
			}
			continue
		}
		b, err := netip.ParseAddr(private)
		if err != nil {
			return nil, fmt.Errorf("-external-ip: %w", err)
		}
		i := slices.IndexFunc(p.Addrs, func(r turn.RelayAddr) bool { return r.Listen == b.Unmap() })
		if i < 0 {
			p.Addrs = append(p.Addrs, turn.RelayAddr{Listen: b.Unmap(), Public: a})
		} else {
			p.Addrs[i].Public = a
		}
	}
	return p, nil
}

// policy makes what may change while the server runs.
func (o *options) policy(w *who) *turn.Policy {
	p := &turn.Policy{
		Peers: turn.PeerPolicy{
			Allow: o.allow, Deny: o.deny, AllowLoopback: o.loopbackPeers,
			Endpoints: slices.Concat(resolve(o.metrics, o.admin), w.endpoints()),
		},
		UserQuota:          o.userQuota,
		RealmQuota:         o.quota,
		SessionRate:        8 * o.maxBPS,
		ServerRate:         8 * o.capacity,
		MaxLifetime:        o.maxLifetime,
		PermissionLifetime: o.permissionLife,
		ChannelLifetime:    o.channelLife,
		NonceLife:          o.nonceLife,
		Mobility:           o.mobility,
		RFC5766Channels:    o.rfc5766,
		NoTCP:              o.noTCPRelay,
		NoUDP:              o.noUDPRelay,
	}
	for _, s := range o.alternates {
		a, _ := alternate(s) // check has seen it
		p.Alternates = append(p.Alternates, a)
	}
	return p
}

// alternate reads "HOST[:PORT][,weight=N][,domain=NAME][,transport=udp|tcp|tls|dtls]".
func alternate(v string) (turn.Alternate, error) {
	fields := strings.Split(v, ",")
	var a turn.Alternate
	for _, f := range fields[1:] {
		name, value, _ := strings.Cut(f, "=")
		switch name {
		case "weight":
			n, err := strconv.ParseUint(value, 10, 16)
			if err != nil {
				return a, fmt.Errorf("-alternate-server: weight %q", value)
			}
			a.Weight = int(n)
		case "domain":
			a.Domain = value
		case "transport":
			a.Transport = value
		default:
			return a, fmt.Errorf("-alternate-server: %q is not known", name)
		}
	}
	if ip, err := netip.ParseAddr(strings.Trim(fields[0], "[]")); err == nil {
		port := uint16(3478)
		if a.Transport == "tls" || a.Transport == "dtls" {
			port = 5349
		}
		a.Server = netip.AddrPortFrom(ip.Unmap(), port)
		return a, nil
	}
	at, err := netip.ParseAddrPort(fields[0])
	if err != nil {
		return a, fmt.Errorf("-alternate-server: %w", err)
	}
	a.Server = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	return a, nil
}

// changeable are the flags that SIGHUP applies.
var changeable = []string{
	"user", "secret", "allow-peer", "deny-peer", "allow-loopback-peers", "rfc5766-channels", "mobility", "alternate-server",
	"no-udp-relay", "no-tcp-relay", "user-quota", "total-quota", "max-bps", "bps-capacity", "stale-nonce", "max-lifetime",
	"permission-lifetime", "channel-lifetime", "log-level", "log-file", "log-format", "config",
}

// fixed names the flags that differ from now but can't change.
func (o *options) fixed(next *options) (names []string) {
	for name, v := range o.values {
		if next.values[name] != v && !slices.Contains(changeable, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func addRange(list *[]auth.IPRange) func(string) error {
	return func(v string) error {
		for _, s := range strings.Split(v, ",") {
			r, err := auth.ParseIPRange(s)
			if err != nil {
				return err
			}
			*list = append(*list, r)
		}
		return nil
	}
}
