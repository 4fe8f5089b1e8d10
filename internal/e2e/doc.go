// Package e2e holds the tests that drive Runnel with real peers: ffmpeg,
// headless Chromium with players from npm, other RTMP implementations. What
// is judged is what comes out: decoded frames, their sizes, the offset
// between sound and picture.
//
// A test whose peer is missing skips and says so. With RUNNEL_E2E=1, which
// make test and CI set, it fails instead. RUNNEL_E2E_KEEP=dir keeps
// screenshots there.
package e2e
