package h264

import (
	"errors"
	"fmt"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
)

// maxSide bounds a picture's width and height; level 6.2 has 16,880 at most.
const maxSide = 1 << 15

// SPS is what a sequence parameter set says about the pictures.
type SPS struct {
	Profile       string // "High", …
	Level         string // "3.1", …
	Width, Height int    // after cropping
	FPS           float64
}

// ParseSPS parses the NAL unit of a sequence parameter set. FPS is 0 if it
// does not say.
func ParseSPS(unit []byte) (SPS, error) {
	s, err := parseSPS(unit)
	if err != nil {
		return SPS{}, fmt.Errorf("h264: %w", err)
	}
	out := SPS{Profile: profile(s.ProfileIdc, unit[2]), Level: level(s.ProfileIdc, unit[2], s.LevelIdc)}
	if out.Width, out.Height, err = size(s); err != nil {
		return SPS{}, err
	}
	if fps := s.FPS(); fps > 0 && fps <= 1000 {
		out.FPS = fps
	}
	return out, nil
}

func parseSPS(unit []byte) (*h264.SPS, error) {
	if !isSPS(unit) {
		return nil, errors.New("not a sequence parameter set")
	}
	var s h264.SPS
	if err := s.Unmarshal(unit); err != nil {
		return nil, err
	}
	if s.ChromaFormatIdc > 3 {
		return nil, errors.New("bad chroma_format_idc")
	}
	return &s, nil
}

// size returns the size after cropping (equations 7-13 to 7-22).
func size(s *h264.SPS) (w, h int, err error) {
	const most = maxSide / 16
	if s.PicWidthInMbsMinus1 >= most || s.PicHeightInMapUnitsMinus1 >= most {
		return 0, 0, errors.New("h264: picture too large")
	}
	fields := 2
	if s.FrameMbsOnlyFlag {
		fields = 1
	}
	w = 16 * int(s.PicWidthInMbsMinus1+1)
	h = 16 * int(s.PicHeightInMapUnitsMinus1+1) * fields
	if c := s.FrameCropping; c != nil {
		unitX, unitY := 1, fields
		if !s.SeparateColourPlaneFlag {
			if s.ChromaFormatIdc == 1 || s.ChromaFormatIdc == 2 {
				unitX = 2
			}
			if s.ChromaFormatIdc == 1 {
				unitY *= 2
			}
		}
		w -= unitX * crop(c.LeftOffset, c.RightOffset)
		h -= unitY * crop(c.TopOffset, c.BottomOffset)
	}
	if w <= 0 || h <= 0 {
		return 0, 0, errors.New("h264: cropped to nothing")
	}
	return w, h, nil
}

// crop adds two offsets; anything beyond maxSide is as wrong as maxSide.
func crop(a, b uint32) int { return int(min(a, maxSide) + min(b, maxSide)) }

// profile names a profile_idc with its constraint flags (Annex A.2).
func profile(idc, constraints byte) string {
	switch idc {
	case 66:
		if constraints&0x40 != 0 {
			return "Constrained Baseline"
		}
		return "Baseline"
	case 77:
		return "Main"
	case 88:
		return "Extended"
	case 100:
		if constraints&0x0c == 0x0c {
			return "Constrained High"
		}
		return "High"
	case 110:
		return "High 10"
	case 122:
		return "High 4:2:2"
	case 244:
		return "High 4:4:4 Predictive"
	case 44:
		return "CAVLC 4:4:4 Intra"
	case 83, 86:
		return "Scalable"
	case 118, 128:
		return "Multiview"
	}
	return fmt.Sprintf("profile %d", idc)
}

// level names a level_idc (Annex A.3): level 1b is 11 with a flag in the old
// profiles, 9 in the others.
func level(idc, constraints, lvl byte) string {
	if lvl == 9 || lvl == 11 && !highProfile(idc) && constraints&0x10 != 0 {
		return "1b"
	}
	if lvl%10 == 0 {
		return fmt.Sprint(lvl / 10)
	}
	return fmt.Sprintf("%d.%d", lvl/10, lvl%10)
}
