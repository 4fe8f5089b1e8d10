// Package srt drives SRT in and out with libsrt's srt-live-transmit, ffmpeg,
// GStreamer and gosrt, in both roles, through a network that loses and reorders.
package srt
