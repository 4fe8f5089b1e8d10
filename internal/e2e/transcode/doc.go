// Package transcode tests what ffmpeg does for package stream/transcode, with the real
// one.
package transcode
