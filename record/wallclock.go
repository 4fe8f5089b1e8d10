package record

import "time"

// A wallClock judges by time that passes whether the wall clock can be trusted: one
// that has jumped, as that of a machine which boots without a battery does, may jump
// back. It must not cost a recording its life.
type wallClock struct {
	begun  bool
	offset time.Time     // what the clock said at the start, by what it says now
	jump   time.Duration // when it last jumped, from the start
	jumped bool
}

const (
	maxJump    = 10 * time.Minute // more is a jump; what NTP does is less
	afterAJump = time.Hour        // the clock is trusted again
)

// steady takes what the clock says and how much time has passed since the start.
func (c *wallClock) steady(wall time.Time, passed time.Duration) bool {
	offset := wall.Round(0).Add(-passed)
	if c.begun && offset.Sub(c.offset).Abs() > maxJump {
		c.jump, c.jumped = passed, true
	}
	c.begun, c.offset = true, offset
	return !c.jumped || passed-c.jump >= afterAJump
}
