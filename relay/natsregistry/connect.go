package natsregistry

import (
	"time"

	"github.com/nats-io/nats.go"
)

// Connect connects to NATS at one URL or several, separated by commas, with
// settings that suit a Registry: a connection that is silent for some seconds
// counts as lost, is made again and again, and nothing is kept to be written
// later meanwhile, when it might no longer be true. It returns at once even if
// nobody answers yet, and fails for what is malformed. opts come last; they
// have the credentials, as nats.UserCredentials, nats.Token or nats.Secure.
// The caller closes the connection.
func Connect(url string, opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect(url, append([]nats.Option{
		nats.Name("runnel"),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
		nats.ReconnectBufSize(-1),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // calls return what matters; by default it goes to standard error
		nats.Timeout(2 * time.Second),
		nats.PingInterval(2 * time.Second),
		nats.MaxPingsOutstanding(2),
	}, opts...)...)
}
