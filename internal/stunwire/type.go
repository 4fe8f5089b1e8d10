package stunwire

import "fmt"

// A TxID is a transaction id. Choose it with crypto/rand.
type TxID = [12]byte

// A Type is a message type as it stands on the wire: a method and a class,
// their bits interleaved (RFC 8489 Section 5).
type Type uint16

// A Method is what a message is about; 12 bits.
type Method uint16

// The methods of RFC 8489, 8656 and 6062.
const (
	Binding           Method = 0x001
	Allocate          Method = 0x003
	Refresh           Method = 0x004
	Send              Method = 0x006 // indication only
	Data              Method = 0x007 // indication only
	CreatePermission  Method = 0x008
	ChannelBind       Method = 0x009
	Connect           Method = 0x00A
	ConnectionBind    Method = 0x00B
	ConnectionAttempt Method = 0x00C // indication only
)

// A Class says which part a message plays in a transaction.
type Class uint8

// The classes.
const (
	Request    Class = 0
	Indication Class = 1
	Success    Class = 2
	Error      Class = 3
)

// NewType joins a method and a class.
func NewType(m Method, c Class) Type {
	return Type(m&0x00F | m&0x070<<1 | m&0xF80<<2 | Method(c&1)<<4 | Method(c&2)<<7)
}

// Method takes the method out of a type.
func (t Type) Method() Method {
	return Method(t&0x000F | t&0x00E0>>1 | t&0x3E00>>2)
}

// Class takes the class out of a type.
func (t Type) Class() Class { return Class(t>>4&1 | t>>7&2) }

// String is the type for logs: "Allocate error".
func (t Type) String() string { return t.Method().String() + " " + t.Class().String() }

// String is the method's name in its RFC.
func (m Method) String() string {
	switch m {
	case Binding:
		return "Binding"
	case Allocate:
		return "Allocate"
	case Refresh:
		return "Refresh"
	case Send:
		return "Send"
	case Data:
		return "Data"
	case CreatePermission:
		return "CreatePermission"
	case ChannelBind:
		return "ChannelBind"
	case Connect:
		return "Connect"
	case ConnectionBind:
		return "ConnectionBind"
	case ConnectionAttempt:
		return "ConnectionAttempt"
	}
	return fmt.Sprintf("method 0x%03x", uint16(m))
}

// String is the class in words.
func (c Class) String() string {
	switch c {
	case Request:
		return "request"
	case Indication:
		return "indication"
	case Success:
		return "success"
	case Error:
		return "error"
	}
	return fmt.Sprintf("class %d", uint8(c))
}
