// Package relayapi is the REST interface to what a server relays: the streams on
// their way from and to other servers.
//
//	GET /api/v2/relays   ?stream= &after=ID &limit=N, in the order of their IDs
//
// A relay is ended by kicking its session (api/mediaapi). It is what api/mediaapi
// is in all else; both stand behind one access.Gate.
package relayapi
