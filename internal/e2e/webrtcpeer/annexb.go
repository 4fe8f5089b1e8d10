package main

import "bytes"

// accessUnits cuts a stream of NAL units with start codes into pictures, each with what
// goes before it.
func accessUnits(b []byte, h265 bool) (units [][]byte) {
	var unit []byte
	pictured := false // unit has one
	for _, nal := range bytes.Split(b, []byte{0, 0, 1}) {
		nal = bytes.TrimRight(nal, "\x00") // of a start code of four bytes, or trailing
		if len(nal) < 3 {
			continue
		}
		typ, first, slice := nal[0]&31, nal[1]&0x80 != 0, false
		if slice = typ == 1 || typ == 5; h265 {
			typ, first = nal[0]>>1&63, nal[2]&0x80 != 0
			slice = typ < 32
		}
		if pictured && (!slice || first) {
			units = append(units, unit)
			unit, pictured = nil, false
		}
		unit = append(append(unit, 0, 0, 0, 1), nal...)
		pictured = pictured || slice
	}
	if pictured {
		units = append(units, unit)
	}
	return units
}
