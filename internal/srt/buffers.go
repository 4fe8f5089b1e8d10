package srt

// buffers keeps memory for payloads. It is not safe for concurrent use.
type buffers struct{ list [][]byte }

const (
	// slab is how many buffers are made at once.
	slab = 16
	// maxFree bounds what is kept when nobody needs it.
	maxFree = 4096
)

// get returns a buffer with b's content.
func (f *buffers) get(b []byte) []byte {
	if len(f.list) == 0 {
		mem := make([]byte, slab*maxPayload)
		for len(mem) > 0 {
			f.list = append(f.list, mem[:0:maxPayload])
			mem = mem[maxPayload:]
		}
	}
	n := len(f.list) - 1
	p := f.list[n]
	f.list[n] = nil
	f.list = f.list[:n]
	return append(p, b...)
}

// put takes a buffer back.
func (f *buffers) put(b []byte) {
	if cap(b) == maxPayload && len(f.list) < maxFree {
		f.list = append(f.list, b[:0])
	}
}
