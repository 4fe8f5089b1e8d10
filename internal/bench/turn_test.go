package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/stunwire"
)

// TestTurn is the whole command in small: real servers, clients and peers.
// What it measures is not judged, but that the packets arrive.
func TestTurn(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip(supported())
	}
	_, err := exec.LookPath(findProgram("turnserver"))
	need(t, "coturn", err == nil)
	_, err = exec.LookPath("go")
	need(t, "the go command", err == nil)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	server, err := buildTurnServer(ctx, t.TempDir())
	require.NoError(t, err)
	for _, tt := range []struct {
		args []string
		rows int
	}{
		{[]string{"-servers", "coturn,runnel,pion/turn", "-via", "udp", "-traffic", "video"}, 3},
		{[]string{"-servers", "runnel", "-via", "udp", "-traffic", "allocations,bindings"}, 2},
		{[]string{"-servers", "runnel", "-via", "tcp,tls,dtls", "-traffic", "voice"}, 3},
	} {
		var out, log strings.Builder
		err = runTurn(ctx, append([]string{"-short", "-md", "-runnel", server}, tt.args...), nil, &out, &log)
		require.NoError(t, err, log.String())
		t.Log(log.String() + out.String())
		rows := 0
		for line := range strings.Lines(out.String()) {
			cells := strings.Split(strings.Trim(line, "| \n"), " | ")
			if len(cells) != len(turnColumns) || cells[0] == "server" || strings.HasPrefix(cells[0], "-") {
				continue
			}
			rows++
			if cells[1] != turnAllocations && cells[1] != turnBindings {
				require.NotContains(t, cells[3], "0.00", "%s", line)
				require.NotEqual(t, "100", cells[6], "nothing arrived: %s", line)
			}
		}
		require.Equal(t, tt.rows, rows)
	}
}

func TestTurnVariants(t *testing.T) {
	b := &turnBench{servers: "coturn,runnel", vias: "udp,tls", traffics: "video,full,bindings", dirs: "up,both", video: 40, voice: 10, stream: 4, allocations: 7}
	vs, err := b.variants()
	require.NoError(t, err)
	var names []string
	for _, v := range vs {
		if v.server == turnRunnel {
			names = append(names, v.String())
		}
	}
	require.Equal(t, []string{"runnel udp video up", "runnel udp video both", "runnel udp full up", "runnel tls video both", "runnel udp bindings "}, names)
	for _, tt := range []struct {
		v    turnVariant
		want int
	}{
		{turnVariant{via: viaUDP, traffic: "video"}, 40}, {turnVariant{via: viaTLS, traffic: "video"}, 10},
		{turnVariant{via: viaUDP, traffic: "full"}, 191}, {turnVariant{via: viaUDP, traffic: turnAllocations}, 7},
	} {
		n, _ := b.clients(tt.v)
		require.Equal(t, tt.want, n, tt.v)
	}
	for _, args := range [][]string{
		{"-servers", "x"}, {"-via", "x"}, {"-traffic", "x"}, {"-dir", "x"}, {"-video", "0"}, {"-window", "1ms"}, {"x"}, {"-x"},
	} {
		require.Error(t, runTurn(t.Context(), args, nil, io.Discard, io.Discard), args)
	}
}

func TestSummarizeTurn(t *testing.T) {
	base := turnVariant{turnCoturn, viaUDP, "voice", "up"}
	ours := turnVariant{turnRunnel, viaUDP, "voice", "up"}
	alloc := turnVariant{turnRunnel, viaUDP, turnAllocations, ""}
	rows := summarizeTurn([]turnResult{
		{variant: base, cpu: 10, sent: 100, received: 100},
		{variant: ours, cpu: 6, sent: 100, received: 100},
		{variant: ours, cpu: 5, sent: 100, received: 75},
		{variant: ours, cpu: 9, sent: 100, received: 100},
		{variant: base, cpu: 14, sent: 100, received: 100},
		{variant: alloc, each: 50, rate: 10, memory: 4},
	})
	require.Len(t, rows, 3)
	require.Equal(t, []string{"runnel", "udp", "voice up", "6.00 (5.00–9.00)", "0.50×", "≤ 0.9×", "25", "0.00 / 0.00"}, rows[1].cells())
	require.Equal(t, []string{"runnel", "allocations", "10", "–", "≥ 2× a second", "50.0 (50.0–50.0)", "–", "4.0"}, rows[2].cells())
}

func TestMeter(t *testing.T) {
	var m meter
	m.reset()
	b := make([]byte, stampSize)
	for i := range 100 {
		putStamp(b, 1000, 1)
		m.packet(b, 1000+int64(i)*int64(time.Millisecond))
	}
	putStamp(b, 1000, 2) // of no window
	m.packet(b, 2000)
	m.packet(b[:3], 0)
	putStamp(b, 1000, 1)
	m.packet(b, 0) // clocks differ
	require.EqualValues(t, 101, m.count)
	require.InDelta(t, 49*time.Millisecond, m.quantile(0.5), float64(time.Millisecond))
	require.InDelta(t, 99*time.Millisecond, m.quantile(0.995), float64(time.Millisecond))
}

// TestFrameReader: messages come out of a stream as they were, however it is
// cut.
func TestFrameReader(t *testing.T) {
	channel := make([]byte, 200)
	data, rest := channelData(channel, 5, true)
	copy(data, "12345")
	require.Len(t, rest, 200-12)
	binding := stunwire.Build(nil, stunwire.NewType(stunwire.Binding, stunwire.Request), stunwire.TxID{1})
	stream := append(bytes.Clone(channel[:12]), binding.Bytes()...)
	stream = append(stream, channel[:12]...)
	for cut := 1; cut < len(stream); cut++ {
		f := frameReader{r: io.MultiReader(bytes.NewReader(stream[:cut]), bytes.NewReader(stream[cut:]))}
		for _, want := range [][]byte{channel[:9], binding.Bytes(), channel[:9]} {
			got, err := f.next()
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		_, err := f.next()
		require.ErrorIs(t, err, io.EOF)
	}
	long := binary.BigEndian.AppendUint16([]byte{0x40, 0}, 0xFFFF)
	_, err := (&frameReader{r: bytes.NewReader(append(long, 0))}).next()
	require.Error(t, err)
}
