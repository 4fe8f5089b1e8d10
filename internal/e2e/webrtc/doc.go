// Package webrtc tests WHIP and WHEP with browsers.
package webrtc
