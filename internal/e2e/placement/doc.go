// Package placement tests that clients of a cluster are sent from server to server
// by the protocols that they speak.
package placement
