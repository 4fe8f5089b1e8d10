// Package relay tests package relay between processes: mediaservers that are
// killed and come back, ffmpeg, and nginx-rtmp as a foreign server.
package relay
