// Package limit bounds what peers take: connections, sessions and bit rates, by
// address, user and stream and in all. One Limiter serves all protocols of a
// host:
//
//	limits := &limit.Limiter{}
//	limits.SetPolicy(&limit.Policy{ConnsPerAddr: 50, SessionsPerUser: 3})
//	in := &ingest.Server{Hub: hub, Auth: authorizer, Limits: limits}
//	out := &deliver.Server{Hub: hub, Auth: authorizer, Limits: limits}
//	err = in.ServeRTMP(limits.Listen(ln), out)
//
// Limits hold at three places. Listen admits connections before anything is
// read from them. Servers that have a Limiter ask it for each session when its
// peer is authorized, before anything is allocated for it. Bit rates are
// measured once a second while sessions last.
//
// Addresses are canonical: an IPv4-mapped address is the IPv4 address. A whole
// /64 of IPv6 addresses counts as one, for a single machine has all of it.
package limit
