package mpegts

// OpusConfig returns the Track.Config for a channel_config_code.
func OpusConfig(code byte) []byte { return opusHead(code).Append(nil) }
