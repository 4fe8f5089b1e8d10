package srt

import (
	"errors"
	"strconv"
	"strings"
)

// A filterConfig is a packet filter, as libsrt writes it:
// "fec,cols:10,rows:5,layout:even,arq:onreq".
type filterConfig struct {
	cols, rows int  // packets of a row, and of a column; rows 1: no columns
	colsOnly   bool // no packets for rows; rows was negative
	even       bool // columns begin with the matrix; else each a row later than the one before
	arq        arqLevel
}

// An arqLevel says how retransmission goes along with a filter.
type arqLevel uint8

const (
	arqOnRequest arqLevel = iota // what the filter cannot repair is asked for
	arqNever
	arqAlways
)

var errFilter = errors.New("srt: packet filter not supported")

// maxMatrix bounds rows times columns: what a peer can make us keep.
const maxMatrix = 1024

// parseFilter reads a packet filter's configuration. An empty one is none.
func parseFilter(s string) (c filterConfig, err error) {
	if s == "" {
		return c, nil
	}
	name, rest, _ := strings.Cut(s, ",")
	if name != "fec" {
		return c, errFilter
	}
	c.rows = 1
	for entry := range strings.SplitSeq(rest, ",") {
		if entry == "" {
			continue
		}
		key, value, _ := strings.Cut(entry, ":")
		switch key {
		case "cols", "rows":
			n, err := strconv.ParseInt(value, 10, 16)
			if err != nil {
				return c, errFilter
			}
			if key == "cols" {
				c.cols = int(n)
			} else if c.rows = int(n); n < 0 {
				c.rows, c.colsOnly = -int(n), true
			}
		case "layout":
			if value != "even" && value != "staircase" {
				return c, errFilter
			}
			c.even = value == "even"
		case "arq":
			level, ok := map[string]arqLevel{"never": arqNever, "onreq": arqOnRequest, "always": arqAlways}[value]
			if !ok {
				return c, errFilter
			}
			c.arq = level
		default:
			return c, errFilter
		}
	}
	if c.cols < 2 || c.cols > 127 || c.rows < 1 || c.colsOnly && c.rows < 2 || c.cols*c.rows > maxMatrix {
		return c, errFilter
	}
	return c, nil
}
