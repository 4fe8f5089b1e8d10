package srt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// everything is what make test asks for; else what shows most in little time.
var everything = os.Getenv("RUNNEL_E2E") == "1" || os.Getenv("RUNNEL_SOAK") == "1"

var (
	us    = end{}
	usIn  = end{listens: true}
	slt   = end{libsrt: true}
	sltIn = end{libsrt: true, listens: true}
)

func (e end) String() string {
	s := "runnel"
	if e.libsrt {
		s = "libsrt"
	}
	if e.listens {
		return s + " listening"
	}
	return s
}

// bad is the network of the issue: 10 % lost, 50 ms, 5 % reordered.
var bad = network{loss: 0.1, delay: 25 * time.Millisecond, reorder: 0.05, late: 8 * time.Millisecond}

// Not one byte is lost, at 480 ms and 10 Mbit/s, for 3 s, for 10 in make test,
// and for 60 with RUNNEL_SOAK=1.
func TestLossLosesNothing(t *testing.T) {
	seconds := 3
	switch {
	case os.Getenv("RUNNEL_SOAK") == "1":
		seconds = 60
	case everything:
		seconds = 10
	}
	packets := 950 * seconds
	w := newWires(t)
	for _, c := range []struct {
		from, to   end
		passphrase string
		refresh    uint64
	}{
		{us, usIn, passphrase, 2000},
		{slt, usIn, passphrase, 0},
		{usIn, slt, passphrase, 0},
		{us, usIn, "", 0},
		{us, sltIn, "", 0},
		{sltIn, us, "", 0},
	} {
		if c.passphrase == "" && !everything {
			continue
		}
		name := fmt.Sprintf("%v to %v", c.from, c.to)
		if c.passphrase != "" {
			name += ", encrypted"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options{latency: 480 * time.Millisecond, passphrase: c.passphrase, refresh: c.refresh}
			tx, rx, s := w.connect(t, c.from, c.to, bad, false, o)
			want := payload(packets)
			got, sent := transfer(t, tx, rx, want, 1052*time.Microsecond)
			report(t, tx, rx)
			require.Empty(t, inexcusable(t, missing(t, got, want), sent, s, o.latency), "packets lost")
		})
	}
}

// report logs what an end of ours has counted.
func report(t *testing.T, ends ...any) {
	for _, e := range ends {
		if e, ok := e.(*ours); ok {
			s := e.conn.Stats()
			t.Logf("sent %d, again %d; came %d, lost %d, came again %d, skipped %d; RTT %.1f ms",
				s.PktSentUnique, s.PktRetrans, s.PktRecvUnique, s.PktRcvLoss, s.PktRcvRetrans, s.PktRcvDrop, s.MsRTT)
		}
	}
}

// Keys change while both implementations talk, each as the sender.
func TestKeysChange(t *testing.T) {
	w := newWires(t)
	for _, c := range []struct{ from, to end }{{slt, usIn}, {usIn, slt}, {us, sltIn}, {sltIn, us}} {
		t.Run(fmt.Sprintf("%v to %v", c.from, c.to), func(t *testing.T) {
			t.Parallel()
			o := options{latency: 2 * time.Second, passphrase: passphrase, refresh: 1000}
			tx, rx, s := w.connect(t, c.from, c.to, network{delay: 2 * time.Millisecond}, false, o)
			want := payload(3500)
			got, sent := transfer(t, tx, rx, want, time.Millisecond)
			require.Empty(t, inexcusable(t, missing(t, got, want), sent, s, o.latency), "packets lost")
			if e, ok := tx.(*ours); ok {
				require.GreaterOrEqual(t, e.conn.Stats().KeyRotations, uint64(3))
			}
		})
	}
}

// A packet filter repairs as much as libsrt's does, whoever sends and receives,
// where nothing is sent again.
func TestFilterRepairsAsLibsrts(t *testing.T) {
	const packets = 3000
	lossy := network{loss: 0.02, delay: 5 * time.Millisecond}
	pairs := []struct{ from, to end }{{slt, sltIn}, {slt, usIn}, {us, sltIn}, {us, usIn}}
	w := newWires(t)
	for _, filter := range []string{"fec,cols:10,rows:5,arq:never", "fec,cols:10,arq:never"} {
		if strings.HasSuffix(filter, "cols:10,arq:never") && !everything {
			continue
		}
		t.Run(filter, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			lost := make(map[string]int)
			t.Run("pairs", func(t *testing.T) {
				for _, c := range pairs {
					name := fmt.Sprintf("%v to %v", c.from, c.to)
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						o := options{latency: 480 * time.Millisecond, filter: filter}
						tx, rx, s := w.connect(t, c.from, c.to, lossy, true, o)
						want := payload(packets)
						got, sent := transfer(t, tx, rx, want, 600*time.Microsecond)
						n := len(inexcusable(t, missing(t, got, want), sent, s, o.latency))
						t.Logf("%d of %d packets lost for good", n, packets)
						mu.Lock()
						defer mu.Unlock()
						lost[name] = n
					})
				}
			})
			if t.Failed() {
				return
			}
			// By pure chance libsrt loses more at one time than at another: what counts is
			// within 5 % of what was lost on the way, 2 % of all, and what chance may make
			// of so few.
			theirs := lost[fmt.Sprintf("%v to %v", pairs[0].from, pairs[0].to)]
			for _, c := range pairs[1:] {
				n := lost[fmt.Sprintf("%v to %v", c.from, c.to)]
				chance := 4 * math.Sqrt(2*float64(theirs+2))
				require.LessOrEqual(t, float64(n-theirs), packets*0.02*0.05+chance, "%v to %v", c.from, c.to)
			}
		})
	}
}

// missing returns the numbers of packets that have not come, and checks that the
// others are in order, and what was sent.
func missing(t *testing.T, got, want []byte) (list []int) {
	t.Helper()
	require.Zero(t, len(got)%packet)
	next := 0
	for ; len(got) > 0; got = got[packet:] {
		n := int(binary.BigEndian.Uint64(got) >> 16)
		require.True(t, n >= next && n < len(want)/packet, "packet %d after %d", n, next-1)
		require.True(t, bytes.Equal(got[:packet], want[n*packet:][:packet]), "packet %d is another", n)
		for ; next < n; next++ {
			list = append(list, next)
		}
		next++
	}
	for ; next < len(want)/packet; next++ {
		list = append(list, next)
	}
	return list
}

// inexcusable returns those of the lost packets that were on their way while the
// machine went on.
func inexcusable(t *testing.T, lost []int, sent []time.Time, s *stalls, latency time.Duration) (list []int) {
	for _, n := range lost {
		if !s.excuse(sent[n], latency) {
			list = append(list, n)
		}
	}
	if n := len(lost) - len(list); n > 0 {
		t.Logf("%d packets were lost while the machine stood still, as it did %d times", n, s.count())
	}
	return list
}
