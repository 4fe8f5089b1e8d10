// Package srs drives examples/srs as users of SRS drive SRS: by its environment and
// its config files, with ffmpeg, a service for its callbacks, and a client script of
// its HTTP API.
package srs
