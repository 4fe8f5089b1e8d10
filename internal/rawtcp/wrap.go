package rawtcp

import "net"

// Listen returns a listener of what l accepts, wrapped.
func Listen(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return Wrap(c), nil
}

// Find returns the Conn that c is or has below it, by its methods NetConn; nil
// if there is none. Something between c and it may hold back what is written
// to c, but must not hold what was read, if the Conn is to be read itself.
func Find(c net.Conn) *Conn {
	for range 8 { // of wrappers; more would be a circle
		if raw, ok := c.(*Conn); ok {
			return raw
		}
		w, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = w.NetConn()
	}
	return nil
}
