// Package udp moves datagrams in batches: many a system call where the system
// can (Linux: recvmmsg and sendmmsg, UDP_GRO and UDP_SEGMENT, one epoll loop
// over thousands of sockets), one a call elsewhere. Both give the same results.
//
// A [Conn] is one socket, a [Batch] collects what is to be sent, and a [Loop]
// reads many Conns in one goroutine with buffers that they share.
//
// # Who may call what
//
//   - Conn: the Write methods, LocalAddr, the Set methods and Close from any
//     goroutine. It is read by one reader: either one goroutine that calls
//     ReadBatch, or one Loop.
//   - Batch: one goroutine at a time. In a Loop, use it in handlers only.
//   - Loop: Add, Do and Close from any goroutine; Run once. Handlers, Tick,
//     Flush and what Do runs never run at the same time, so that what only
//     they touch needs no lock. They must not wait for each other: call Do and
//     Run from outside of them only. They may call Add, Close and everything
//     of Conn and Batch.
//
// What a handler gets in Packet.Data may be read until the Loop's Flush has
// returned, then it is overwritten. So a handler may put it into a Batch as it
// is, and Flush sends the Batch.
//
// Addresses are netip.AddrPort, and IPv4 ones are never IPv4-mapped.
package udp
