// Package amf encodes and decodes the Action Message Format, in which RTMP
// commands and the metadata of FLV files are written: AMF0 both ways, AMF3
// for reading what Flash-era peers send.
//
// # Values
//
// A decoded value is one of nil, bool, float64, string, [Object], [ECMAArray],
// []any, [time.Time] and [Undefined]. AMF3's integers become float64, its byte
// arrays and XML documents become strings, its vectors []any. Object
// references are not followed and decode as Undefined: no media peer needs
// them and they let a short message describe a huge tree.
//
// Decoding is bounded in depth, in values and in the bytes of strings, so a
// hostile message costs no more than a small multiple of its length.
package amf

import (
	"errors"
	"slices"
	"time"
)

// Errors that Decode, DecodeAMF3 and Append return.
var (
	errShort       = errors.New("amf: message ends inside a value")
	errMarker      = errors.New("amf: unknown type marker")
	errDepth       = errors.New("amf: values nested too deeply")
	errTooMany     = errors.New("amf: too many values")
	errReference   = errors.New("amf: reference to nothing")
	errExternal    = errors.New("amf: externalizable object of an unknown class")
	errUnencodable = errors.New("amf: value of a type that AMF0 cannot carry")
	errLong        = errors.New("amf: string too long")
)

const (
	maxDepth  = 32      // of nested objects and arrays
	maxValues = 1 << 16 // in one message
)

// Undefined is ActionScript's undefined.
type Undefined struct{}

// A Property is one named value of an Object.
type Property struct {
	Name  string
	Value any
}

// An Object is an ordered list of properties: an AMF0 anonymous or typed
// object (the class name is dropped), or an AMF3 object.
type Object []Property

// An ECMAArray is an associative array (AMF0 marker 8, or an AMF3 array with
// named elements): on the wire another type, otherwise like Object.
type ECMAArray Object

// Get returns the value of the first property with that name, nil if there is
// none.
func (o Object) Get(name string) any {
	for i := range o {
		if o[i].Name == name {
			return o[i].Value
		}
	}
	return nil
}

// String returns the property if it is a string, otherwise "".
func (o Object) String(name string) string {
	s, _ := o.Get(name).(string)
	return s
}

// Number returns the property if it is a number, otherwise 0.
func (o Object) Number(name string) float64 {
	n, _ := o.Get(name).(float64)
	return n
}

// Map returns the properties as a tree of plain Go values: nil, bool, float64,
// string, []any and map[string]any. Undefined becomes nil, a date a string in
// RFC 3339 form. Of properties with one name the last wins.
func (o Object) Map() map[string]any {
	m := make(map[string]any, len(o))
	for _, p := range o {
		m[p.Name] = plain(p.Value)
	}
	return m
}

// Get, String, Number and Map do what Object's do.
func (a ECMAArray) Get(name string) any        { return Object(a).Get(name) }
func (a ECMAArray) String(name string) string  { return Object(a).String(name) }
func (a ECMAArray) Number(name string) float64 { return Object(a).Number(name) }
func (a ECMAArray) Map() map[string]any        { return Object(a).Map() }

// AsObject returns v as an Object if it is an Object or an ECMAArray. nil and
// false otherwise.
func AsObject(v any) (Object, bool) {
	switch v := v.(type) {
	case Object:
		return v, true
	case ECMAArray:
		return Object(v), true
	}
	return nil, false
}

func plain(v any) any {
	switch v := v.(type) {
	case Object:
		return v.Map()
	case ECMAArray:
		return v.Map()
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plain(v[i])
		}
		return out
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case Undefined:
		return nil
	}
	return v
}

// FromMetadata returns m as an ECMAArray with its keys in order, the form in
// which onMetaData is written. Values stay as they are: Append knows maps.
func FromMetadata(m map[string]any) ECMAArray {
	a := make(ECMAArray, 0, len(m))
	for _, k := range sortedKeys(m) {
		a = append(a, Property{k, m[k]})
	}
	return a
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
