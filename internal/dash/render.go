package dash

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/runnel-media/runnel/internal/fmp4"
	"github.com/runnel-media/runnel/internal/hls"
	"github.com/runnel-media/runnel/stream"
)

// render writes the MPD up to the end of its Periods, nil if it has none.
func (m *Manifest) render(views [renditions]hls.View, is state, now time.Time) []byte {
	tl := &m.timeline
	body := writer{make([]byte, 0, 4096+64*(is.count[hls.Video]+is.count[hls.Audio]))}
	longest, begin := time.Duration(0), time.Duration(-1)
	for i := range tl.periods {
		p := &tl.periods[i]
		var lists [renditions][]*hls.Segment
		there := false
		for r := range renditions {
			lists[r] = p.listed(views, r)
			for _, s := range lists[r] {
				if at := p.presentation(r, s.Start); begin < 0 || at < begin {
					begin = at
				}
				longest = max(longest, s.Duration, endOf(s)-s.Start)
				there = true
			}
		}
		if there {
			m.period(&body, p, &lists)
		}
	}
	if begin < 0 {
		return nil
	}

	last := tl.periods[len(tl.periods)-1]
	end := last.until
	w := writer{make([]byte, 0, len(body.b)+1024)}
	w.text(`<?xml version="1.0" encoding="UTF-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011"`)
	if is.ended {
		// Periods keep their starts, so the presentation does not begin at 0.
		w.text(` type="static" mediaPresentationDuration="`).duration(end)
	} else {
		w.text(` type="dynamic" availabilityStartTime="`).time(tl.available)
		w.text(`" publishTime="`).time(now)
		// A player learns of a segment half a segment after it is there, at
		// the latest.
		w.text(`" minimumUpdatePeriod="`).duration(is.target / 2)
		// Counted from now (DASH 5.3.1.2), so from where the newest would be
		// without lag.
		w.text(`" timeShiftBufferDepth="`).duration(end - begin + last.lag)
		w.text(`" suggestedPresentationDelay="`).duration(3 * is.target)
	}
	w.text(`" minBufferTime="`).duration(is.target)
	w.text(`" maxSegmentDuration="`).duration(longest)
	w.text("\">\n")
	return append(w.b, body.b...)
}

func (m *Manifest) period(w *writer, p *period, lists *[renditions][]*hls.Segment) {
	w.text("  <Period id=\"").uint(p.first).text("\" start=\"").duration(p.start).text("\">\n")
	done := [renditions]bool{}
	for r := range renditions {
		if done[r] || len(lists[r]) == 0 {
			continue
		}
		track := p.inits[r].Track
		w.adaptationSet(r, track)
		for other := r; other < renditions; other++ {
			if other == r || len(lists[other]) > 0 && track.Kind() == stream.Video && p.inits[other].Track.Codec == track.Codec {
				m.representation(w, p, other, lists[other])
				done[other] = true
			}
		}
		w.text("    </AdaptationSet>\n")
	}
	w.text("  </Period>\n")
}

// adaptationSet begins that of a track and those in the same codec.
func (w *writer) adaptationSet(r hls.Rendition, track *stream.Track) {
	kind := track.Kind().String()
	w.text("    <AdaptationSet id=\"").int(1 + int(r)).text(`" contentType="`).text(kind).text(`" mimeType="`).text(kind)
	w.text(`/mp4" segmentAlignment="true" startWithSAP="1"`)
	if track.Kind() == stream.Audio && hls.IsLanguage(track.Language) {
		w.text(` lang="`).text(track.Language).text(`"`)
	}
	w.text(">\n")
}

func (m *Manifest) representation(w *writer, p *period, r hls.Rendition, list []*hls.Segment) {
	track := p.inits[r].Track
	w.text("      <Representation id=\"").text(r.String())
	w.text(`" bandwidth="`).int(max(m.bandwidth[r], 1))
	if codecs := track.CodecString(); codecs != "" {
		w.text(`" codecs="`).escaped(codecs)
	}
	if track.Kind() == stream.Video {
		w.picture(track)
	} else {
		w.sound(track)
	}
	w.text("        <SegmentTemplate timescale=\"").uint(uint64(fmp4.Timescale(track)))
	ticks := func(d time.Duration) int64 { return stream.Ticks(d, int(fmp4.Timescale(track))) }
	w.text(`" presentationTimeOffset="`).int64(ticks(p.origin))
	w.text(`" startNumber="`).uint(list[0].Sequence)
	base := strings.ReplaceAll(m.MediaBase, "$", "$$") + m.Packager.Secret() + "/"
	w.text(`" initialization="`).escaped(base).escaped(p.inits[r].Name())
	w.text(`" media="`).escaped(base).text(r.String()).text("$Number$.m4s\">\n          <SegmentTimeline>\n")
	w.segmentTimeline(list, func(dts time.Duration) int64 { return ticks(dts + p.shift[r]) })
	w.text("          </SegmentTimeline>\n        </SegmentTemplate>\n      </Representation>\n")
}

// segmentTimeline writes the S elements (DASH 5.3.9.6). at gives the time on the
// Period's media timeline of a decoding time.
func (w *writer) segmentTimeline(list []*hls.Segment, at func(time.Duration) int64) {
	next := int64(math.MinInt64) // where the segments so far end
	for i := 0; i < len(list); {
		// A segment lasts until the next begins, unless that leaves a hole.
		span := func(i int) (from, to int64) {
			end := endOf(list[i])
			if i+1 < len(list) && list[i+1].Start < end {
				end = list[i+1].Start
			}
			return at(list[i].Start), at(end)
		}
		from, to := span(i)
		repeat := 0
		end := to
		for i+repeat+1 < len(list) {
			f, t := span(i + repeat + 1)
			if f != end || t-f != to-from {
				break
			}
			repeat, end = repeat+1, t
		}
		w.text("            <S")
		if from != next {
			w.text(` t="`).int64(from).text(`"`)
		}
		w.text(` d="`).int64(to - from)
		if repeat > 0 {
			w.text(`" r="`).int(repeat)
		}
		w.text("\"/>\n")
		next = end
		i += repeat + 1
	}
}

// picture writes the rest of a video Representation's attributes.
func (w *writer) picture(t *stream.Track) {
	info, _ := t.Video() // what it could read
	if info.Width > 0 && info.Height > 0 {
		w.text(`" width="`).int(info.Width).text(`" height="`).int(info.Height)
	}
	if info.FPS > 0 && info.FPS < 1000 {
		w.text(`" frameRate="`).frameRate(info.FPS)
	}
	w.text("\">\n")
}

// sound writes the rest of an audio Representation's attributes, and what comes
// before its SegmentTemplate.
func (w *writer) sound(t *stream.Track) {
	info, _ := t.Audio()
	if info.Rate > 0 {
		w.text(`" audioSamplingRate="`).int(info.Rate)
	}
	w.text("\">\n")
	if info.Channels <= 0 {
		return
	}
	layout := info.Channels // ChannelConfiguration of ISO/IEC 23003-3
	if layout == 8 {
		layout = 7 // 7.1
	}
	w.text("        <AudioChannelConfiguration schemeIdUri=\"urn:mpeg:dash:23003:3:audio_channel_configuration:2011\" value=\"")
	w.int(layout).text("\"/>\n")
}

// A writer appends XML.
type writer struct{ b []byte }

// text appends what needs no escaping.
func (w *writer) text(s string) *writer {
	w.b = append(w.b, s...)
	return w
}

// escaped appends an attribute's value. What XML cannot hold is left out.
func (w *writer) escaped(s string) *writer {
	for _, c := range s { // invalid UTF-8 becomes U+FFFD
		switch {
		case c == '&':
			w.text("&amp;")
		case c == '<':
			w.text("&lt;")
		case c == '>':
			w.text("&gt;")
		case c == '"':
			w.text("&quot;")
		case c < ' ', c == 0xfffe, c == 0xffff:
		default:
			w.b = append(w.b, string(c)...)
		}
	}
	return w
}

func (w *writer) int(n int) *writer { return w.int64(int64(n)) }

func (w *writer) int64(n int64) *writer {
	w.b = strconv.AppendInt(w.b, n, 10)
	return w
}

func (w *writer) uint(n uint64) *writer {
	w.b = strconv.AppendUint(w.b, n, 10)
	return w
}

// duration writes an xs:duration, rounded up to milliseconds.
func (w *writer) duration(d time.Duration) *writer {
	ms := int64(ceilMilli(max(d, 0)) / time.Millisecond)
	w.text("PT").int64(ms / 1000)
	if ms %= 1000; ms > 0 {
		digits := strconv.Itoa(int(1000 + ms))[1:]
		w.text(".").text(strings.TrimRight(digits, "0"))
	}
	return w.text("S")
}

// time writes an xs:dateTime.
func (w *writer) time(t time.Time) *writer {
	w.b = t.UTC().AppendFormat(w.b, "2006-01-02T15:04:05.000Z")
	return w
}

// frameRate writes frames a second as a whole number or a fraction.
func (w *writer) frameRate(fps float64) *writer {
	if n := math.Round(fps); n >= 1 && math.Abs(fps-n) < 0.001 {
		return w.int(int(n))
	}
	if n := math.Round(fps * 1.001); n >= 1 && math.Abs(fps*1.001-n) < 0.001 {
		return w.int(int(n) * 1000).text("/1001")
	}
	return w.int(int(max(1, math.Round(fps*1000)))).text("/1000")
}
