package srt

// Stats are a connection's figures from its start, under the names that libsrt
// has for them (SRT_TRACEBSTATS), totals without "Total". Bytes are payload's.
type Stats struct {
	PktSent         uint64 `json:"pktSent"`
	PktRecv         uint64 `json:"pktRecv"`
	PktSentUnique   uint64 `json:"pktSentUnique"`
	PktRecvUnique   uint64 `json:"pktRecvUnique"`
	PktSndLoss      uint64 `json:"pktSndLoss"`
	PktRcvLoss      uint64 `json:"pktRcvLoss"`
	PktRetrans      uint64 `json:"pktRetrans"`
	PktRcvRetrans   uint64 `json:"pktRcvRetrans"`
	PktSentACK      uint64 `json:"pktSentACK"`
	PktRecvACK      uint64 `json:"pktRecvACK"`
	PktSentNAK      uint64 `json:"pktSentNAK"`
	PktRecvNAK      uint64 `json:"pktRecvNAK"`
	PktSndDrop      uint64 `json:"pktSndDrop"`
	PktRcvDrop      uint64 `json:"pktRcvDrop"`
	PktRcvUndecrypt uint64 `json:"pktRcvUndecrypt"`
	PktRcvBelated   uint64 `json:"pktRcvBelated"` // that came before, or too late
	PktReorder      uint64 `json:"pktReorder"`    // that came after a later one

	PktSndFilterExtra  uint64 `json:"pktSndFilterExtra"`
	PktRcvFilterExtra  uint64 `json:"pktRcvFilterExtra"`
	PktRcvFilterSupply uint64 `json:"pktRcvFilterSupply"` // rebuilt

	ByteSent       uint64 `json:"byteSent"`
	ByteRecv       uint64 `json:"byteRecv"`
	ByteSentUnique uint64 `json:"byteSentUnique"`
	ByteRecvUnique uint64 `json:"byteRecvUnique"`
	ByteRetrans    uint64 `json:"byteRetrans"`
	ByteSndDrop    uint64 `json:"byteSndDrop"`

	// At the moment.
	MsRTT           float64 `json:"msRTT"`
	MsRTTVar        float64 `json:"msRTTVar"`
	MbpsSendRate    float64 `json:"mbpsSendRate"` // of the last second or two
	MbpsRecvRate    float64 `json:"mbpsRecvRate"`
	MbpsBandwidth   float64 `json:"mbpsBandwidth"` // that the peer, or we, think the path has
	MsRcvTsbPdDelay float64 `json:"msRcvTsbPdDelay"`
	MsSndTsbPdDelay float64 `json:"msSndTsbPdDelay"`
	PktFlightSize   int     `json:"pktFlightSize"`
	PktFlowWindow   int     `json:"pktFlowWindow"`
	PktSndBuf       int     `json:"pktSndBuf"`
	PktRcvBuf       int     `json:"pktRcvBuf"`

	// Not libsrt's.
	PktRcvInvalid uint64 `json:"pktRcvInvalid"` // what made no sense
	PktRecvACKACK uint64 `json:"pktRecvACKACK"`
	PeerCapacity  uint32 `json:"-"`            // packets a second
	KeyRotations  uint64 `json:"keyRotations"` // of what is sent
}

// snapshot returns the figures now.
func (c *core) snapshot(now micros) Stats {
	s := c.stats
	ms := func(d micros) float64 { return float64(d) / float64(millisecond) }
	s.MsRTT, s.MsRTTVar = ms(c.rtt), ms(c.rttVar)
	s.MsRcvTsbPdDelay, s.MsSndTsbPdDelay = ms(c.recvLatency), ms(c.peerLatency)
	_, bytes := c.rcv.meter.rates(now)
	s.MbpsRecvRate = float64(bytes) * 8 / 1e6
	c.snd.pacer.input(now, 0)
	s.MbpsSendRate = float64(c.snd.pacer.measured) * 8 / 1e6
	capacity := c.rcv.meter.capacity()
	if s.PktSent > s.PktRecv {
		capacity = s.PeerCapacity
	}
	s.MbpsBandwidth = float64(capacity) * livePayload * 8 / 1e6
	s.PktFlightSize = c.snd.next.sub(c.snd.first)
	s.PktSndBuf = c.snd.end.sub(c.snd.first)
	s.PktFlowWindow = c.snd.room
	s.PktRcvBuf = c.rcv.high.sub(c.rcv.base)
	return s
}
