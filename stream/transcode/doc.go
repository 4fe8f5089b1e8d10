// Package transcode makes other forms of live streams: sound in another codec in this
// process, and by ffmpeg, a program of its own, pictures in other sizes and codecs.
//
// Audio adds renditions of a stream's sound; Opus is inside, AAC is package goaac. A
// Ladder adds renditions of its pictures, all made by one ffmpeg. Renditions are a
// stream's own (see stream.Derivation), made while somebody reads them, on the timeline of
// their source: HLS, DASH and WebRTC offer them beside it. A Snapshot makes stills, an
// Exec runs a command beside each stream, and a Pull publishes what ffmpeg can read.
//
// # Programs
//
// Whatever they do, the live stream goes on. Media goes through pipes. A program that
// crashes is started again, after a delay that doubles up to half a minute; one that
// hangs is killed before. It gets no shell, no text that a peer has chosen where it could
// be more than text, an environment of its own, a process group of its own that ends with
// it and with this process, and Limits. docs/transcoding.md says more.
package transcode
