// Package authz tests that the right to publish and play is the same over every
// protocol: that it is asked for before anything happens, ends when it ends, and
// counts for limits.
package authz
