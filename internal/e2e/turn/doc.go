// Package turn holds the tests that drive Runnel's TURN server and client with
// real peers: coturn's server and clients, and headless Chromium. They run in a
// network namespace of their own, which the test program makes and enters
// before anything else: every server gets a loopback address for itself and the
// ports that the protocols are known by. What is judged are the bytes that
// were sent and received, never a foreign program's exit status.
package turn
