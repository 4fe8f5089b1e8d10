package turn

import "github.com/runnel-media/runnel/internal/udp"

// An outbox collects packets for sockets, so that runs of them go out by one
// system call. What is added is not copied: it must last until flush.
type outbox struct {
	stats *serverStats
	conn  *udp.Conn // of the packets in batch
	batch udp.Batch
}

// use makes c the socket of what is added from now on. Scratch memory of the
// batch is to be taken after it.
func (o *outbox) use(c *udp.Conn) {
	if o.conn != c {
		o.flush()
		o.conn = c
	}
}

// flush sends what was added. A packet that the system has no room for is lost,
// as on a network.
func (o *outbox) flush() {
	if o.conn == nil {
		return
	}
	if dropped, _ := o.batch.Flush(o.conn); dropped > 0 {
		o.stats.drop(dropSend, uint64(dropped))
	}
	o.conn = nil
}
