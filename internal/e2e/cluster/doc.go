// Package cluster tests a cluster of mediaservers, with its registry in their
// NATS nodes, as processes that are killed and machines that are cut off.
package cluster
