package turn

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"

	"github.com/runnel-media/runnel/internal/oneport"
	"github.com/runnel-media/runnel/internal/proxyproto"
)

// ListenOptions say whom a listener of Listen takes. The zero value takes
// plain TCP.
type ListenOptions struct {
	// TLS serves TLS beside plain TCP on the same port; the first byte of a
	// connection tells which it is. Versions before TLS 1.2 are not spoken.
	// ALPN is RFC 7443's if NextProtos is nil. nil: no TLS.
	TLS *tls.Config

	// TLSOnly closes plain connections.
	TLSOnly bool

	// Proxies are who hands on clients with a PROXY header, version 1 or 2.
	// Their connections have to begin with one; nobody else is believed.
	// Server.Proxies is the same for UDP.
	Proxies []netip.Prefix

	Log *slog.Logger // of connections that were closed, at debug level; nil: nothing is logged
}

// Listen opens a TCP listener for [Server.Serve]. What precedes the first
// request, headers and handshakes, is read beside Accept, with a deadline and
// bounds on how many there are at a time, in all and of one source. nil options
// are the zero ones.
func Listen(ctx context.Context, network, address string, o *ListenOptions) (net.Listener, error) {
	if o == nil {
		o = &ListenOptions{}
	}
	l, err := new(net.ListenConfig).Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if len(o.Proxies) > 0 {
		l = proxyproto.Listen(l, proxyproto.Options{Trusted: o.Proxies})
	}
	return oneport.Listen(l, o.TLS, oneport.Options{TLSOnly: o.TLSOnly, Log: o.Log}), nil
}
