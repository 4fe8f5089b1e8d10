package amf

import (
	"encoding/binary"
	"math"
	"time"
)

// Type markers of AMF0 (AMF0 specification, section 2.1).
const (
	m0Number      = 0x00
	m0Boolean     = 0x01
	m0String      = 0x02
	m0Object      = 0x03
	m0MovieClip   = 0x04
	m0Null        = 0x05
	m0Undefined   = 0x06
	m0Reference   = 0x07
	m0ECMAArray   = 0x08
	m0ObjectEnd   = 0x09
	m0StrictArray = 0x0a
	m0Date        = 0x0b
	m0LongString  = 0x0c
	m0Unsupported = 0x0d
	m0RecordSet   = 0x0e
	m0XMLDocument = 0x0f
	m0TypedObject = 0x10
	m0AVMPlus     = 0x11
)

// Append appends values in AMF0 to dst and returns the longer slice. Beside
// the types that Decode returns it takes map[string]any (an anonymous object
// with its keys in order) and Go's integers and float32 (numbers). On an error
// dst is returned as it was.
func Append(dst []byte, values ...any) ([]byte, error) {
	out := dst
	for _, v := range values {
		var err error
		if out, err = appendValue(out, v, 0); err != nil {
			return dst, err
		}
	}
	return out, nil
}

func appendValue(b []byte, v any, depth int) ([]byte, error) {
	if depth > maxDepth {
		return b, errDepth
	}
	switch v := v.(type) {
	case nil:
		return append(b, m0Null), nil
	case Undefined:
		return append(b, m0Undefined), nil
	case bool:
		if v {
			return append(b, m0Boolean, 1), nil
		}
		return append(b, m0Boolean, 0), nil
	case string:
		if len(v) > math.MaxUint16 {
			if uint64(len(v)) > math.MaxUint32 {
				return b, errLong
			}
			b = binary.BigEndian.AppendUint32(append(b, m0LongString), uint32(len(v)))
			return append(b, v...), nil
		}
		b = binary.BigEndian.AppendUint16(append(b, m0String), uint16(len(v)))
		return append(b, v...), nil
	case time.Time:
		b = appendFloat(append(b, m0Date), float64(v.UnixMilli()))
		return append(b, 0, 0), nil // time zone: reserved, zero
	case Object:
		return appendProperties(append(b, m0Object), v, depth)
	case ECMAArray:
		b = binary.BigEndian.AppendUint32(append(b, m0ECMAArray), uint32(len(v)))
		return appendProperties(b, Object(v), depth)
	case map[string]any:
		return appendProperties(append(b, m0Object), Object(FromMetadata(v)), depth)
	case []any:
		b = binary.BigEndian.AppendUint32(append(b, m0StrictArray), uint32(len(v)))
		for _, e := range v {
			var err error
			if b, err = appendValue(b, e, depth+1); err != nil {
				return b, err
			}
		}
		return b, nil
	}
	if f, ok := number(v); ok {
		return appendFloat(append(b, m0Number), f), nil
	}
	return b, errUnencodable
}

func number(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case float32:
		return float64(v), true
	case int:
		return float64(v), true
	case int8:
		return float64(v), true
	case int16:
		return float64(v), true
	case int32:
		return float64(v), true
	case int64:
		return float64(v), true
	case uint:
		return float64(v), true
	case uint8:
		return float64(v), true
	case uint16:
		return float64(v), true
	case uint32:
		return float64(v), true
	case uint64:
		return float64(v), true
	}
	return 0, false
}

func appendFloat(b []byte, f float64) []byte {
	return binary.BigEndian.AppendUint64(b, math.Float64bits(f))
}

func appendProperties(b []byte, o Object, depth int) ([]byte, error) {
	for _, p := range o {
		if len(p.Name) > math.MaxUint16 {
			return b, errLong
		}
		b = binary.BigEndian.AppendUint16(b, uint16(len(p.Name)))
		b = append(b, p.Name...)
		var err error
		if b, err = appendValue(b, p.Value, depth+1); err != nil {
			return b, err
		}
	}
	return append(b, 0, 0, m0ObjectEnd), nil
}

// Decode decodes all AMF0 values of b. A value behind the AVM+ marker (0x11)
// is read as AMF3. With an error it returns the values before the bad one.
// Nothing of the result aliases b.
func Decode(b []byte) ([]any, error) {
	d := decoder{b: b}
	return d.all(d.value0)
}

// decoder walks over one message.
type decoder struct {
	b       []byte // what is left
	values  int    // decoded so far
	strings []string
	traits  []traits
	shared  int // bytes of strings that were had by reference
}

// all decodes what is left by value, which takes the depth. With an error it
// returns the values before the bad one.
func (d *decoder) all(value func(int) (any, error)) (out []any, err error) {
	for len(d.b) > 0 {
		v, err := value(0)
		if err != nil {
			return out, err
		}
		out = append(out, v)
	}
	return out, nil
}

// list decodes n values, each of which takes a byte at least.
func (d *decoder) list(n uint64, value func() (any, error)) ([]any, error) {
	if n > uint64(len(d.b)) {
		return nil, errShort
	}
	list := []any{}
	for range n {
		v, err := value()
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func (d *decoder) take(n int) ([]byte, error) {
	if n < 0 || n > len(d.b) {
		return nil, errShort
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p, nil
}

// count notes that one more value is decoded at that depth.
func (d *decoder) count(depth int) error {
	if depth > maxDepth {
		return errDepth
	}
	if d.values++; d.values > maxValues {
		return errTooMany
	}
	return nil
}

func (d *decoder) u8() (byte, error) {
	p, err := d.take(1)
	if err != nil {
		return 0, err
	}
	return p[0], nil
}

func (d *decoder) u16() (int, error) {
	p, err := d.take(2)
	if err != nil {
		return 0, err
	}
	return int(binary.BigEndian.Uint16(p)), nil
}

func (d *decoder) u32() (uint32, error) {
	p, err := d.take(4)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(p), nil
}

func (d *decoder) float() (float64, error) {
	p, err := d.take(8)
	if err != nil {
		return 0, err
	}
	return math.Float64frombits(binary.BigEndian.Uint64(p)), nil
}

func (d *decoder) shortString() (string, error) {
	n, err := d.u16()
	if err != nil {
		return "", err
	}
	p, err := d.take(n)
	return string(p), err
}

func (d *decoder) longString() (string, error) {
	n, err := d.u32()
	if err != nil {
		return "", err
	}
	if uint64(n) > uint64(len(d.b)) {
		return "", errShort
	}
	p, err := d.take(int(n))
	return string(p), err
}

func (d *decoder) value0(depth int) (any, error) {
	if err := d.count(depth); err != nil {
		return nil, err
	}
	marker, err := d.u8()
	if err != nil {
		return nil, err
	}
	switch marker {
	case m0Number:
		return box(d.float())
	case m0Boolean:
		v, err := d.u8()
		return v != 0, err
	case m0String:
		return box(d.shortString())
	case m0LongString, m0XMLDocument:
		return box(d.longString())
	case m0Null:
		return nil, nil
	case m0Undefined, m0Unsupported:
		return Undefined{}, nil
	case m0Reference:
		_, err := d.u16()
		return Undefined{}, err
	case m0Object:
		return box(d.properties0(depth, -1))
	case m0TypedObject:
		if _, err := d.shortString(); err != nil {
			return nil, err
		}
		return box(d.properties0(depth, -1))
	case m0ECMAArray:
		n, err := d.u32()
		if err != nil {
			return nil, err
		}
		o, err := d.properties0(depth, int64(n))
		return ECMAArray(o), err
	case m0StrictArray:
		return box(d.array0(depth))
	case m0Date:
		ms, err := d.float()
		if err != nil {
			return nil, err
		}
		if _, err := d.u16(); err != nil {
			return nil, err
		}
		return date(ms), nil
	case m0AVMPlus:
		return d.value3(depth + 1)
	}
	return nil, errMarker // movie clip, record set, a stray object end, garbage
}

// box keeps a nil error's value and drops a value that came with an error.
func box[T any](v T, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return v, nil
}

// date returns the time, the zero time if ms is not a sane number.
func date(ms float64) time.Time {
	if !(math.Abs(ms) < 1e15) {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms)).UTC()
}

// properties0 reads properties up to the object-end marker. count is what an
// ECMA array announced (-1: nothing): it is only a hint, but some encoders end
// the message right after so many and leave the end marker out.
func (d *decoder) properties0(depth int, count int64) (Object, error) {
	o := Object{}
	for {
		if len(d.b) == 0 && int64(len(o)) == count {
			return o, nil
		}
		name, err := d.shortString()
		if err != nil {
			return nil, err
		}
		if name == "" && len(d.b) > 0 && d.b[0] == m0ObjectEnd {
			d.b = d.b[1:]
			return o, nil
		}
		v, err := d.value0(depth + 1)
		if err != nil {
			return nil, err
		}
		o = append(o, Property{name, v})
	}
}

func (d *decoder) array0(depth int) ([]any, error) {
	n, err := d.u32()
	if err != nil {
		return nil, err
	}
	return d.list(uint64(n), func() (any, error) { return d.value0(depth + 1) })
}
