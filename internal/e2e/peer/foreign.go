package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net/url"
	"testing"
	"time"

	"github.com/bluenviron/gortmplib"
	rtmp "github.com/bluenviron/gortmplib/pkg/codecs"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/av1"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/opus"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/vp9"
	"github.com/bluenviron/mediacommon/v2/pkg/formats/mp4/codecs"
	"github.com/stretchr/testify/require"
)

// A Foreign is a connection of another RTMP implementation, one that speaks
// enhanced RTMP, which ffmpeg 5.1 does not.
type Foreign struct {
	client *gortmplib.Client
	result chan error // nil once the whole clip was sent or the stream's end was reached
	coded  *Coded
	ahead  time.Duration
}

// dial connects to rtmp://host:port/app, with the stream's name as fragment.
func dial(ctx context.Context, target string, publish bool) (*gortmplib.Client, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	c := &gortmplib.Client{URL: u, Publish: publish}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return c, c.Initialize(ctx)
}

// PublishForeign publishes at the speed of the media. Wait returns when all of
// it was sent.
func PublishForeign(t testing.TB, target string, c *Coded) *Foreign {
	t.Helper()
	return PublishAhead(t, target, c, 0)
}

// PublishAhead is PublishForeign for a publisher that sends the first of its media
// as fast as it can.
func PublishAhead(t testing.TB, target string, c *Coded, ahead time.Duration) *Foreign {
	t.Helper()
	client, err := dial(t.Context(), target, true)
	require.NoError(t, err, "%s", target)
	f := &Foreign{client: client, result: make(chan error, 1), coded: c, ahead: ahead}
	t.Cleanup(client.Close)
	go func() {
		defer client.Close()
		f.result <- f.send()
	}()
	return f
}

// Wait returns the result of the transfer, and what was received.
func (f *Foreign) Wait(t testing.TB, timeout time.Duration) (*Coded, error) {
	t.Helper()
	select {
	case err := <-f.result:
		return f.coded, err
	case <-time.After(timeout):
		t.Fatalf("the foreign peer has not come to the end within %v", timeout)
		return nil, nil
	}
}

func (f *Foreign) send() error {
	var tracks []*gortmplib.Track
	for _, c := range f.coded.Tracks {
		switch c := c.(type) {
		case *codecs.H264:
			tracks = append(tracks, &gortmplib.Track{Codec: &rtmp.H264{SPS: c.SPS, PPS: c.PPS}})
		case *codecs.H265:
			tracks = append(tracks, &gortmplib.Track{Codec: &rtmp.H265{VPS: c.VPS, SPS: c.SPS, PPS: c.PPS}})
		case *codecs.AV1:
			tracks = append(tracks, &gortmplib.Track{Codec: &rtmp.AV1{}})
		case *codecs.VP9:
			tracks = append(tracks, &gortmplib.Track{Codec: &rtmp.VP9{}})
		case *codecs.Opus:
			tracks = append(tracks, &gortmplib.Track{Codec: &rtmp.Opus{IDHeader: &opus.IDHeader{
				Version: 1, ChannelCount: uint8(c.ChannelCount),
				InputSampleRate: bits.ReverseBytes32(48000), // IDHeader writes the wrong order of bytes (RFC 7845, 5.1)
			}}})
		case *codecs.MPEG4Audio:
			tracks = append(tracks, &gortmplib.Track{Codec: &rtmp.MPEG4Audio{Config: &c.Config}})
		default:
			return fmt.Errorf("peer: no way to send %T", c)
		}
	}
	w := &gortmplib.Writer{Conn: f.client, Tracks: tracks}
	if err := w.Initialize(); err != nil {
		return err
	}
	start := time.Now().Add(-f.ahead)
	for _, frame := range f.coded.Frames {
		time.Sleep(time.Until(start.Add(frame.DTS)))
		if err := writeFrame(w, tracks[frame.Track], frame); err != nil {
			return err
		}
	}
	return nil
}

func writeFrame(w *gortmplib.Writer, track *gortmplib.Track, frame CodedFrame) error {
	switch track.Codec.(type) {
	case *rtmp.H264, *rtmp.H265:
		var au h264.AVCC // the same form for both
		if err := au.Unmarshal(frame.Data); err != nil {
			return err
		}
		if _, ok := track.Codec.(*rtmp.H264); ok {
			return w.WriteH264(track, frame.PTS, frame.DTS, au)
		}
		return w.WriteH265(track, frame.PTS, frame.DTS, au)
	case *rtmp.AV1:
		var tu av1.Bitstream
		if err := tu.Unmarshal(frame.Data); err != nil {
			return err
		}
		return w.WriteAV1(track, frame.PTS, tu)
	case *rtmp.VP9:
		return w.WriteVP9(track, frame.PTS, frame.Data)
	case *rtmp.Opus:
		return w.WriteOpus(track, frame.PTS, frame.Data)
	default:
		return w.WriteMPEG4Audio(track, frame.PTS, frame.Data)
	}
}

// PlayForeign plays until the stream ends. It need not have begun: connecting
// is part of what runs in the background. Wait returns what came.
func PlayForeign(t testing.TB, target string) *Foreign {
	t.Helper()
	f := &Foreign{result: make(chan error, 1), coded: &Coded{}}
	ctx := t.Context()
	go func() {
		var err error
		if f.client, err = dial(ctx, target, false); err == nil {
			stop := context.AfterFunc(ctx, f.client.Close)
			defer stop()
			defer f.client.Close()
			err = f.receive()
		}
		f.result <- err
	}()
	return f
}

func (f *Foreign) receive() error {
	r := &gortmplib.Reader{Conn: f.client}
	if err := r.Initialize(); err != nil {
		return err
	}
	var failed error // of turning a frame into MP4's form
	add := func(i int, pts, dts time.Duration, key bool, data []byte, err error) {
		failed = errors.Join(failed, err)
		f.coded.Frames = append(f.coded.Frames, CodedFrame{Track: i, PTS: pts, DTS: dts, Key: key, Data: data})
	}
	for i, track := range r.Tracks() {
		var codec codecs.Codec
		switch c := track.Codec.(type) {
		case *rtmp.H264:
			codec = &codecs.H264{SPS: c.SPS, PPS: c.PPS}
			r.OnDataH264(track, func(pts, dts time.Duration, au [][]byte) {
				data, err := h264.AVCC(au).Marshal()
				add(i, pts, dts, h264.IsRandomAccess(au), data, err)
			})
		case *rtmp.H265:
			codec = &codecs.H265{VPS: c.VPS, SPS: c.SPS, PPS: c.PPS}
			r.OnDataH265(track, func(pts, dts time.Duration, au [][]byte) {
				data, err := h264.AVCC(au).Marshal()
				add(i, pts, dts, h265.IsRandomAccess(au), data, err)
			})
		case *rtmp.AV1:
			// What MP4 wants to know of AV1 and VP9 comes with the key frames.
			config := &codecs.AV1{}
			codec = config
			r.OnDataAV1(track, func(pts time.Duration, tu [][]byte) {
				for _, obu := range tu {
					if av1.OBUType(obu[0]>>3&15) == av1.OBUTypeSequenceHeader {
						config.SequenceHeader = obu
					}
				}
				data, err := av1.Bitstream(tu).Marshal()
				add(i, pts, pts, av1.IsRandomAccess2(tu), data, err)
			})
		case *rtmp.VP9:
			config := &codecs.VP9{}
			codec = config
			r.OnDataVP9(track, func(pts time.Duration, frame []byte) {
				var h vp9.Header
				err := h.Unmarshal(frame)
				if err == nil && !h.NonKeyFrame {
					config.Width, config.Height = h.Width(), h.Height()
					config.Profile, config.BitDepth = h.Profile, h.ColorConfig.BitDepth
					config.ChromaSubsampling = h.ChromaSubsampling()
				}
				add(i, pts, pts, !h.NonKeyFrame, frame, err)
			})
		case *rtmp.Opus:
			codec = &codecs.Opus{ChannelCount: int(c.IDHeader.ChannelCount)}
			r.OnDataOpus(track, func(pts time.Duration, packet []byte) { add(i, pts, pts, true, packet, nil) })
		case *rtmp.MPEG4Audio:
			codec = &codecs.MPEG4Audio{Config: *c.Config}
			r.OnDataMPEG4Audio(track, func(pts time.Duration, au []byte) { add(i, pts, pts, true, au, nil) })
		default:
			return fmt.Errorf("peer: no way to keep %T", c)
		}
		f.coded.Tracks = append(f.coded.Tracks, codec)
	}
	for {
		if err := r.Read(); errors.Is(err, io.EOF) {
			return failed
		} else if err != nil {
			return errors.Join(failed, err)
		}
	}
}
