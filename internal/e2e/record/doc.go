// Package record holds the tests of recordings with real peers: ffmpeg publishes,
// ffprobe judges files, Chromium plays them, and programs are killed while they
// write.
package record
