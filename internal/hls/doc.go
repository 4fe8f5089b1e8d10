// Package hls packages one live stream as HTTP Live Streaming (RFC 8216 and
// draft-pantos-hls-rfc8216bis, below "bis"): low-latency CMAF in separate video
// and audio renditions, which DASH shares, and MPEG-TS with both in one for old
// players. It knows nothing of HTTP: a Packager takes frames at one end and
// gives playlists, bytes by name and blocking reloads at the other.
//
// # Segments
//
// One decision cuts all renditions: at the first video key frame that is
// Config.Segment or more after the last cut; without video, at the first audio
// frame. Segments with the same Media Sequence Number hold the same stretch of
// time in every rendition, and discontinuities carry the same numbers. A
// rendition whose track falls silent gets EXT-X-GAP segments, so that it keeps
// step. A publisher that came back, a timestamp that jumped, and a changed
// codec configuration begin a segment with EXT-X-DISCONTINUITY, the last with a
// new EXT-X-MAP.
//
// EXT-X-TARGETDURATION may not change (bis 6.2.1), and nobody can know how far
// apart key frames will be. So a stream has no playlist until its first segment
// is complete; the target duration is then the larger of Config.Segment and
// that segment, rounded up. If key frames come further apart later, there are
// two evils: to cut without a key frame, where no player can join, or to raise
// the target duration. The latter is done, since players in the field accept
// it, up to Config.MaxSegment, after which a segment is cut without a key frame.
//
// # Parts
//
// A part is cut when one more frame would make it longer than the part target
// duration, as soon as the frame after it has come. PART-TARGET cannot change
// either, and a part must last 85 to 100 % of it (bis 4.4.4.9). So each
// rendition chooses a whole number of its frames that comes closest to
// Config.Part, plus 8 % for uneven timestamps. A source whose frames come more
// unevenly than that breaks the 85 % rule at times; no cutting could help it.
//
// A part is one buffer, made once: moof, mdat and the frames' data. A segment is
// its parts' buffers in order, and serving either to any number of viewers
// copies and allocates nothing. Frames' data could be left where it is and
// written in 10 to 25 pieces a part. To copy the 50 kB of a part costs 5 to 30 µs
// once, allocation included; pieces cost each viewer 10 to 40 µs more a part,
// since net/http hands them to the system one by one, and they keep the
// publisher's buffers alive for the window.
//
// # Names
//
// Media is named SECRET/NAME, where the secret is 120 random bits of this
// Packager. A name stays what it is: its bytes never change, so that caches may
// keep them for ever, and shared by all viewers. Playlists refer to media as
// Config.MediaPrefix + SECRET/NAME, to each other and to keys by their plain
// names ("a.m3u8", "v3.key"). No media playlist holds anything of a single
// viewer, so that one rendered and one gzipped body serve all. What a viewer
// carries, such as a signed token, belongs into the path in front of the
// playlist's name, which relative references keep:
//
//	live/NAME.m3u8                      multivariant playlist, made per viewer, refers to:
//	live/NAME/_hls/TOKEN/v.m3u8         media playlist, checked at each reload, refers to:
//	live/NAME/_hls/TOKEN/v3.key         key, checked
//	live/NAME/_hls/SECRET/v12.m4s       with MediaPrefix "../", unchecked, for caches
//
// # Encryption
//
// With Config.Encrypt media segments are AES-128 (CBC, PKCS #7) with the Media
// Sequence Number as IV, and initialization segments stay clear. The draft says
// nothing of parts; players (hls.js, Shaka) take each for encrypted by itself
// with its segment's key and IV, and so they are. The segment is encrypted a
// second time as a whole. DASH cannot use an encrypted stream.
package hls
