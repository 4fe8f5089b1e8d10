package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/runnel-media/runnel/internal/srt"
	"github.com/runnel-media/runnel/internal/udp"
)

// runSRTPipe does with internal/srt what srt-live-transmit does: datagrams that
// come over UDP go out over SRT, or the reverse.
func runSRTPipe(ctx context.Context, args []string, _ io.Reader, _, log io.Writer) error {
	fs := flag.NewFlagSet("bench srtpipe", flag.ContinueOnError)
	fs.SetOutput(log)
	from := fs.String("udp", "", "send what comes to this address; empty: receive")
	call := fs.String("srt", "", "over SRT to this one, or listen there")
	to := fs.String("to", "", "and send to this one what is received")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *from != "" {
		return pipeToSRT(ctx, *from, *call)
	}
	return pipeFromSRT(ctx, *call, *to)
}

func pipeToSRT(ctx context.Context, from, call string) error {
	addr, err := netip.ParseAddrPort(from)
	if err != nil {
		return err
	}
	in, err := udp.Listen("udp4", addr, udp.Options{GRO: true, ReadBuffer: 4 << 20})
	if err != nil {
		return err
	}
	e := &srt.Endpoint{}
	var called atomic.Pointer[srt.Conn]
	err = e.Read(in, udp.HandlerFunc(func(ps []udp.Packet) {
		conn := called.Load()
		if conn == nil {
			return
		}
		// A copy, for it is kept until it is acknowledged. Datagrams of 1316
		// bytes, which all but the last must be here, stay what they are.
		size := 0
		for i := range ps {
			size += len(ps[i].Data)
		}
		all := make([]byte, 0, size)
		for i := range ps {
			all = append(all, ps[i].Data...)
		}
		_, _ = conn.PushBytes(all)
	}))
	if err != nil {
		return err
	}
	conn, err := srt.Dial(ctx, call, e, srt.DialOptions{StreamID: "bench"})
	if err != nil {
		return err
	}
	called.Store(conn)
	select {
	case <-ctx.Done():
		conn.Abort()
		return nil
	case <-conn.Done():
		return conn.Err()
	}
}

func pipeFromSRT(ctx context.Context, listen, to string) error {
	dest, err := netip.ParseAddrPort(to)
	if err != nil {
		return err
	}
	out, err := udp.Listen("udp4", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0), udp.Options{WriteBuffer: 4 << 20})
	if err != nil {
		return err
	}
	defer out.Close()
	var batch udp.Batch
	e := &srt.Endpoint{Handler: func(c *srt.Call) {
		_, _ = c.Accept(func(due [][]byte) {
			for _, p := range due {
				batch.Add(dest, udp.Mark{}, nil, p)
			}
			_, _ = batch.Flush(out)
		})
	}}
	pc, err := new(net.ListenConfig).ListenPacket(ctx, "udp4", listen)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = e.Close() })
	if err := e.Serve(pc); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// srtLoad sends datagrams at a rate, and counts those that come out.
type srtLoad struct {
	out  *net.UDPConn
	sent int
}

// run sends until ctx ends, what is due each millisecond.
func (l *srtLoad) run(ctx context.Context, bits float64) {
	const size = 1316
	packet := make([]byte, size)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for due := int(time.Since(began).Seconds() * bits / 8 / size); l.sent < due; l.sent++ {
			_, _ = l.out.Write(packet) // refused until somebody listens
		}
	}
}
