package main

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
)

// A setting is a flag's value that a directive of turnserver.conf stands for.
type setting struct {
	flag, value string
	line        int
}

// A conf is a turnserver.conf that was read.
type conf struct {
	settings []setting
	unknown  []string // directives that mean nothing here, "name (line 3)"

	ips                    []string
	port, tlsPort          string
	noUDP, noTCP           bool
	noTLS, noDTLS, cert    bool
	metrics                bool
	metricsIP, metricsPort string
}

// directives says which flag a directive is, where its value is taken as it is.
var directives = map[string]string{
	"alternate-server":        "alternate-server",
	"allowed-peer-ip":         "allow-peer",
	"denied-peer-ip":          "deny-peer",
	"bps-capacity":            "bps-capacity",
	"cert":                    "cert",
	"external-ip":             "external-ip",
	"log-file":                "log-file",
	"max-bps":                 "max-bps",
	"max-port":                "max-port",
	"min-port":                "min-port",
	"pkey":                    "key",
	"realm":                   "realm",
	"relay-ip":                "relay-ip",
	"rest-api-separator":      "rest-separator",
	"server-name":             "server-name",
	"static-auth-secret":      "secret",
	"stateless-nonce-secret":  "nonce-secret",
	"total-quota":             "total-quota",
	"user":                    "user",
	"user-quota":              "user-quota",
	"stale-nonce":             "stale-nonce",
	"max-allocate-lifetime":   "max-lifetime",
	"channel-lifetime":        "channel-lifetime",
	"permission-lifetime":     "permission-lifetime",
	"allow-loopback-peers":    "allow-loopback-peers",
	"mobility":                "mobility",
	"no-tcp-relay":            "no-tcp-relay",
	"no-udp-relay":            "no-udp-relay",
	"oauth":                   "oauth",
	"rfc5766-channel-numbers": "rfc5766-channels",
	"rfc5780":                 "rfc5780",
	"syslog":                  "syslog",
	"log-min-level":           "log-level",
}

// idle need no flag: what they ask for happens anyway, or is about parts of
// coturn that are not there.
var idle = []string{
	"lt-cred-mech", "use-auth-secret", "fingerprint", "no-multicast-peers", "no-cli", "no-rfc5780", "stateless-nonce",
	"no-tlsv1", "no-tlsv1_1", "no-sslv2", "no-sslv3", "no-stun-backward-compatibility", "response-origin-only-with-rfc5780",
	"simple-log", "new-log-timestamp", "no-stdout-log", "dh566", "dh1066", "dh2066", "dh-file", "ec-curve-name",
	"pidfile", "relay-threads", "unauthorized-ratelimit", "daemon", "no-software-attribute", "no-auth-pings",
}

// readConf reads a turnserver.conf: NAME or NAME=VALUE in a line, # begins a
// comment. What it does not know is no error, but what would open the server
// is.
func readConf(text string) (*conf, error) {
	c := &conf{port: "3478", tlsPort: "5349", metricsPort: "9641"}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, has := strings.Cut(line, "=")
		name, value = strings.TrimLeft(strings.TrimSpace(name), "-"), strings.Trim(strings.TrimSpace(value), `"`)
		if err := c.directive(name, value, has, i+1); err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", i+1, name, err)
		}
	}
	c.join()
	return c, nil
}

func (c *conf) directive(name, value string, has bool, line int) error {
	set := func(flag, value string) { c.settings = append(c.settings, setting{flag, value, line}) }
	switch name {
	case "no-auth":
		return errors.New("it makes an open relay, which this server does not")
	case "listening-ip", "L":
		c.ips = append(c.ips, value)
	case "listening-port", "p":
		c.port = value
	case "tls-listening-port":
		c.tlsPort = value
	case "no-udp":
		c.noUDP = true
	case "no-tcp":
		c.noTCP = true
	case "no-tls":
		c.noTLS = true
	case "no-dtls":
		c.noDTLS = true
	case "prometheus":
		c.metrics = true
		set("coturn-metrics", "true")
	case "prometheus-address":
		c.metricsIP = value
	case "prometheus-port":
		c.metricsPort = value
	case "stale-nonce", "max-allocate-lifetime", "channel-lifetime", "permission-lifetime":
		if !has {
			break // coturn's default, which is ours
		}
		if value == "0" && name == "stale-nonce" {
			return errors.New("a nonce that never goes stale is not to be had")
		}
		set(directives[name], value+"s") // seconds
	case "verbose", "Verbose":
		set("log-level", "debug")
	case "redis-userdb", "psql-userdb", "mysql-userdb":
		if strings.Contains(value, "://") {
			set("db", value)
			break
		}
		set("db", map[string]string{"redis-userdb": "redis:", "psql-userdb": "postgres:", "mysql-userdb": "mysql:"}[name]+value)
	case "udp-alternate-server", "tcp-alternate-server":
		set("alternate-server", value+",transport="+name[:3])
	case "tls-alternate-server":
		set("alternate-server", value+",transport=tls")
		set("alternate-server", value+",transport=dtls")
	case "redis-statsdb":
		if !strings.Contains(value, "://") {
			value = "redis:" + value
		}
		set("statsdb", value)
	case "userdb", "db":
		path, err := filepath.Abs(value)
		if err != nil {
			return err
		}
		set("db", "sqlite://"+filepath.ToSlash(path))
	default:
		if flag := directives[name]; flag != "" {
			if !has {
				value = "true"
			}
			c.cert = c.cert || name == "cert"
			set(flag, value)
		} else if !slices.Contains(idle, name) {
			c.unknown = append(c.unknown, fmt.Sprintf("%s (line %d)", name, line))
		}
	}
	return nil
}

// join makes addresses of what stands in several lines.
func (c *conf) join() {
	if c.ips == nil {
		c.ips = []string{""}
	}
	add := func(flag, ip, port string, noUDP, noTCP bool) {
		address := net.JoinHostPort(ip, port)
		switch {
		case noUDP && noTCP:
			return
		case noUDP:
			address += "/tcp"
		case noTCP:
			address += "/udp"
		}
		c.settings = append(c.settings, setting{flag: flag, value: address})
	}
	for _, ip := range c.ips {
		add("listen", ip, c.port, c.noUDP, c.noTCP)
		if c.cert {
			add("tls", ip, c.tlsPort, c.noDTLS, c.noTLS)
		}
	}
	if c.metrics {
		c.settings = append(c.settings, setting{flag: "metrics", value: net.JoinHostPort(c.metricsIP, c.metricsPort)})
	}
}
