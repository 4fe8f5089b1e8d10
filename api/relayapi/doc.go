// Package relayapi is the REST interface to what a server relays: the streams on
// their way from and to other servers, and the cluster that it is part of.
//
//	GET /api/v2/relays           ?stream= &after=ID &limit=N, in the order of their IDs
//	GET /api/v2/cluster          ?after=ID &limit=N: the servers, where there are several
//	GET /api/v2/cluster/streams  ?server=ID &after=NAME &limit=N: those whose publishers it has
//
// A relay is ended by kicking its session (api/mediaapi). It is what api/mediaapi
// is in all else; both stand behind one access.Gate.
package relayapi
