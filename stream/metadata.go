package stream

// Metadata is what a publisher says of its stream beside the tracks: title,
// encoder and the like, onMetaData in RTMP's words. Values are nil, bool,
// float64, string, []any and map[string]any. It is never modified once given
// to a Publisher.
type Metadata map[string]any
