package stream

import (
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSessionTable(t *testing.T) {
	var h Hub
	a := h.OpenSession(SessionInfo{Role: RolePlay, Protocol: "rtmp", Remote: netip.MustParseAddrPort("192.0.2.1:5000")}, nil)
	b := h.OpenSession(SessionInfo{Role: RolePublish}, nil)
	require.Len(t, a.ID(), 26)
	require.NotEqual(t, a.ID(), b.ID())
	require.Equal(t, RolePlay, a.Info().Role)
	require.NotZero(t, a.Info().Started)
	require.Same(t, a, h.Session(a.ID()))
	require.Nil(t, h.Session("other"))
	n := 0
	for s := range h.Sessions() {
		s.Close(nil) // in the loop: nothing is locked
		n++
	}
	require.Equal(t, 2, n)
	require.Nil(t, h.Session(a.ID()))
	require.Empty(t, h.sessions.all)
	a.Close(errors.New("again"))

	// Of two that chose the same ID the first does not take the second with it.
	c := h.OpenSession(SessionInfo{ID: "same"}, nil)
	d := h.OpenSession(SessionInfo{ID: "same"}, nil)
	c.Close(nil)
	require.Same(t, d, h.Session("same"))
}

func TestKickOnce(t *testing.T) {
	var h Hub
	var mu sync.Mutex
	var kicks []error
	kick := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		kicks = append(kicks, err)
	}
	s := h.OpenSession(SessionInfo{}, kick)
	var all sync.WaitGroup
	won := 0
	for range 50 {
		all.Go(func() {
			if s.Kick(nil) {
				mu.Lock()
				won++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	require.Equal(t, []error{ErrKicked}, kicks)
	require.Equal(t, 1, won)
	require.NotNil(t, h.Session(s.ID()), "it is there until whoever runs it closes it")
	s.Close(ErrKicked)

	closed := h.OpenSession(SessionInfo{}, kick)
	closed.Close(nil)
	require.False(t, closed.Kick(nil), "nobody is there any more")
	require.Len(t, kicks, 1)

	deny := errors.New("denied")
	other := h.OpenSession(SessionInfo{}, kick)
	require.True(t, other.Kick(deny))
	require.Equal(t, deny, kicks[1])

	last := h.OpenSession(SessionInfo{}, kick)
	require.NoError(t, h.Close())
	require.ErrorIs(t, kicks[2], ErrClosed)
	require.False(t, last.Kick(nil))
	require.False(t, h.OpenSession(SessionInfo{}, nil).Kick(nil), "nothing to call")
}

func TestSessionStats(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var h Hub
		s := h.OpenSession(SessionInfo{}, nil)
		require.Equal(t, SessionStats{}, s.Stats())
		time.Sleep(250 * ms)
		s.AddOut(1000)
		time.Sleep(750 * ms)
		s.AddIn(24)
		s.AddSkip(5000)
		s.AddSkip(7)
		require.Equal(t, SessionStats{
			BytesIn: 24, BytesOut: 1000, Dropped: 5007, Skips: 2,
			FirstFrame: 250 * ms, BitRate: 8192,
		}, s.Stats())

		// 1000 bytes a second, asked for every second: the rate is that of the last seconds.
		for range 30 {
			time.Sleep(time.Second)
			s.AddOut(1000)
			s.Stats()
		}
		require.InDelta(t, 8000, s.Stats().BitRate, 1)
		for range 11 {
			time.Sleep(time.Second)
			s.Stats()
		}
		require.Zero(t, s.Stats().BitRate)
		// Asked for seldom it is the average since the last but one time.
		s.AddOut(60_000)
		time.Sleep(time.Minute)
		require.InDelta(t, 60_000*8/66, s.Stats().BitRate, 1000)
	})
}

// Those who have no session need not ask.
func TestNilSession(t *testing.T) {
	var s *Session
	s.AddIn(1)
	s.AddOut(1)
	s.AddSkip(1)
	s.Close(nil)
	require.False(t, s.Kick(nil))
	require.Empty(t, s.ID())
	require.Equal(t, SessionInfo{}, s.Info())
	require.Equal(t, SessionStats{}, s.Stats())
}
