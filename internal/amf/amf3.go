package amf

import (
	"strconv"
)

// Type markers of AMF3 (AMF3 specification, section 3.1).
const (
	m3Undefined    = 0x00
	m3Null         = 0x01
	m3False        = 0x02
	m3True         = 0x03
	m3Integer      = 0x04
	m3Double       = 0x05
	m3String       = 0x06
	m3XMLDocument  = 0x07
	m3Date         = 0x08
	m3Array        = 0x09
	m3Object       = 0x0a
	m3XML          = 0x0b
	m3ByteArray    = 0x0c
	m3VectorInt    = 0x0d
	m3VectorUint   = 0x0e
	m3VectorDouble = 0x0f
	m3VectorObject = 0x10
	m3Dictionary   = 0x11
)

// traits describe the class of AMF3 objects; later objects refer to them.
type traits struct {
	class    string
	members  []string
	dynamic  bool
	external bool
}

// DecodeAMF3 decodes all AMF3 values of b. With an error it returns the
// values before the bad one. Nothing of the result aliases b.
func DecodeAMF3(b []byte) ([]any, error) {
	d := decoder{b: b}
	return d.all(d.value3)
}

func (d *decoder) value3(depth int) (any, error) {
	if err := d.count(depth); err != nil {
		return nil, err
	}
	marker, err := d.u8()
	if err != nil {
		return nil, err
	}
	switch marker {
	case m3Undefined:
		return Undefined{}, nil
	case m3Null:
		return nil, nil
	case m3False, m3True:
		return marker == m3True, nil
	case m3Integer:
		n, err := d.u29()
		return float64(int32(n<<3) >> 3), err // 29 bits, signed
	case m3Double:
		return box(d.float())
	case m3String:
		return box(d.string3())
	}

	// The rest is sent by value with a size, or as a reference to before.
	size, inline, err := d.size3()
	if err != nil {
		return nil, err
	}
	if !inline {
		return Undefined{}, nil
	}
	switch marker {
	case m3XMLDocument, m3XML, m3ByteArray:
		p, err := d.take(size)
		return string(p), err
	case m3Date:
		ms, err := d.float()
		return date(ms), err
	case m3Array:
		return d.array3(size, depth)
	case m3Object:
		return d.object3(size, depth)
	case m3VectorInt, m3VectorUint:
		return d.vector3(size, func() (any, error) {
			u, err := d.u32()
			if marker == m3VectorInt {
				return float64(int32(u)), err
			}
			return float64(u), err
		})
	case m3VectorDouble:
		return d.vector3(size, func() (any, error) { return box(d.float()) })
	case m3VectorObject:
		return d.vectorObject3(size, depth)
	case m3Dictionary:
		return d.dictionary3(size, depth)
	}
	return nil, errMarker
}

// u29 reads a variable-length integer of up to four bytes (section 1.3.1).
func (d *decoder) u29() (uint32, error) {
	var n uint32
	for i := range 4 {
		c, err := d.u8()
		if err != nil {
			return 0, err
		}
		if i == 3 {
			return n<<8 | uint32(c), nil
		}
		n = n<<7 | uint32(c&0x7f)
		if c < 0x80 {
			return n, nil
		}
	}
	return n, nil
}

// size3 reads the integer in front of a value: its low bit says whether the
// value follows (then the rest is its size) or stands at that index of what
// was sent before.
func (d *decoder) size3() (size int, inline bool, err error) {
	n, err := d.u29()
	return int(n >> 1), n&1 == 1, err
}

func (d *decoder) string3() (string, error) {
	n, inline, err := d.size3()
	if err != nil {
		return "", err
	}
	if !inline {
		if n >= len(d.strings) {
			return "", errReference
		}
		// Two bytes can name a long string: whoever writes the values out
		// again pays for each, so they may not be named without bound.
		s := d.strings[n]
		if d.shared += len(s); d.shared > 1<<20 {
			return "", errTooMany
		}
		return s, nil
	}
	p, err := d.take(n)
	if err != nil {
		return "", err
	}
	s := string(p)
	if s != "" { // the empty string is never sent by reference
		d.strings = append(d.strings, s)
	}
	return s, nil
}

// named3 appends the properties up to the empty name.
func (d *decoder) named3(o Object, depth int) (Object, error) {
	for {
		name, err := d.string3()
		if err != nil {
			return nil, err
		}
		if name == "" {
			return o, nil
		}
		v, err := d.value3(depth + 1)
		if err != nil {
			return nil, err
		}
		o = append(o, Property{name, v})
	}
}

func (d *decoder) array3(dense, depth int) (any, error) {
	named, err := d.named3(nil, depth)
	if err != nil {
		return nil, err
	}
	list, err := d.list(uint64(dense), func() (any, error) { return d.value3(depth + 1) })
	if err != nil || named == nil {
		return box(list, err)
	}
	for i, v := range list {
		named = append(named, Property{strconv.Itoa(i), v})
	}
	return ECMAArray(named), nil
}

// traits3 reads the class description whose first integer, without the bit
// for "inline object", is ref.
func (d *decoder) traits3(ref int) (*traits, error) {
	if ref&1 == 0 {
		if ref>>1 >= len(d.traits) {
			return nil, errReference
		}
		return &d.traits[ref>>1], nil
	}
	t := traits{external: ref&2 != 0, dynamic: ref&4 != 0}
	n := ref >> 3
	var err error
	if t.class, err = d.string3(); err != nil {
		return nil, err
	}
	if n > len(d.b) {
		return nil, errShort
	}
	for range n {
		if err := d.count(0); err != nil {
			return nil, err
		}
		name, err := d.string3()
		if err != nil {
			return nil, err
		}
		t.members = append(t.members, name)
	}
	d.traits = append(d.traits, t)
	return &d.traits[len(d.traits)-1], nil
}

func (d *decoder) object3(ref, depth int) (any, error) {
	t, err := d.traits3(ref)
	if err != nil {
		return nil, err
	}
	if t.external {
		// Its body is whatever the class wrote. Flex's array wrapper is
		// the only one that is met, and holds one value.
		if t.class == "flex.messaging.io.ArrayCollection" {
			return d.value3(depth + 1)
		}
		return nil, errExternal
	}
	o := Object{}
	members, dynamic := t.members, t.dynamic // t may move when d.traits grows
	for _, name := range members {
		v, err := d.value3(depth + 1)
		if err != nil {
			return nil, err
		}
		o = append(o, Property{name, v})
	}
	if !dynamic {
		return o, nil
	}
	return box(d.named3(o, depth))
}

func (d *decoder) vector3(n int, element func() (any, error)) (any, error) {
	if _, err := d.u8(); err != nil { // fixed length or not
		return nil, err
	}
	return box(d.list(uint64(n), func() (any, error) {
		if err := d.count(0); err != nil {
			return nil, err
		}
		return element()
	}))
}

func (d *decoder) vectorObject3(n, depth int) (any, error) {
	if _, err := d.u8(); err != nil { // fixed length or not
		return nil, err
	}
	if _, err := d.string3(); err != nil { // the elements' class
		return nil, err
	}
	return box(d.list(uint64(n), func() (any, error) { return d.value3(depth + 1) }))
}

// dictionary3 keeps the entries whose key is a string or a number.
func (d *decoder) dictionary3(n, depth int) (any, error) {
	if _, err := d.u8(); err != nil { // weak keys or not
		return nil, err
	}
	if n > len(d.b)/2 {
		return nil, errShort
	}
	out := ECMAArray{}
	for range n {
		k, err := d.value3(depth + 1)
		if err != nil {
			return nil, err
		}
		v, err := d.value3(depth + 1)
		if err != nil {
			return nil, err
		}
		switch k := k.(type) {
		case string:
			out = append(out, Property{k, v})
		case float64:
			out = append(out, Property{strconv.FormatFloat(k, 'f', -1, 64), v})
		}
	}
	return out, nil
}
