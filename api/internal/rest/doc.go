// Package rest is what the JSON interfaces of the control plane have in common:
// routes with the role that each takes, bounded bodies, problem details (RFC
// 9457), entity tags and the audit.
package rest
