package srt

// pace bounds how fast a connection sends (SRTO_MAXBW and its relatives).
type pace struct {
	// maxBW is in bytes a second. Below 0 there is no bound but a gigabit; 0
	// takes it from the input, with overhead percent on top.
	maxBW    int64
	inputBW  int64 // bytes a second of the input; 0: measured
	minInput int64 // a bound below of what is measured
	overhead int   // percent, for retransmission; 0: 25
}

const (
	unbounded = 1_000_000_000 / 8 // bytes a second
	// burst is what may go at once however slow the connection is: what one
	// system call sends.
	burst = 64 * (livePayload + headerSize)
)

// A pacer is a bucket of bytes that may be sent now.
type pacer struct {
	pace
	filled micros
	tokens int64

	counted  int64 // bytes of input since measured
	since    micros
	measured int64 // bytes a second
}

// rate is what may be sent, in bytes a second.
func (p *pacer) rate() int64 {
	if p.maxBW > 0 {
		return p.maxBW
	}
	if p.maxBW < 0 {
		return unbounded
	}
	input := p.inputBW
	if input == 0 {
		input = max(p.measured, p.minInput)
	}
	if input == 0 {
		return unbounded // not known yet
	}
	overhead := int64(p.overhead)
	if overhead == 0 {
		overhead = 25
	}
	return input + input*overhead/100
}

// input counts bytes to be sent for the first time.
func (p *pacer) input(now micros, n int) {
	p.counted += int64(n)
	if d := now - p.since; d >= second {
		p.measured = p.counted * int64(second) / int64(d)
		p.since, p.counted = now, 0
	}
}

func (p *pacer) refill(now micros) {
	if d := now - p.filled; d > 0 {
		rate := p.rate()
		p.tokens = min(p.tokens+rate*min(int64(d), int64(second))/int64(second), max(burst, rate/200))
		p.filled = now
	}
}

// wait returns when something may be sent again.
func (p *pacer) wait(now micros) micros {
	if p.tokens > 0 {
		return now
	}
	return now + max(millisecond, micros((burst/4-p.tokens)*int64(second)/p.rate()))
}
