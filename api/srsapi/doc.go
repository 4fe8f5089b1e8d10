// Package srsapi answers the routes of SRS's HTTP API (port 1985 there), so that
// tools written for SRS work with a stream.Hub:
//
//	GET    /api/v1/versions
//	GET    /api/v1/summaries
//	GET    /api/v1/features
//	GET    /api/v1/vhosts[/ID]
//	GET    /api/v1/streams[/ID]     ?start= &count=
//	GET    /api/v1/clients[/ID]     ?start= &count=
//	DELETE /api/v1/clients/ID       kicks
//
// Answers have SRS's envelope {code, server, service, pid, data} and its
// statuses: what is not found is a 200 with code 2048 or 2049, and a path that
// is not there gets the list of those that are. Three things differ, for
// safety: there is no JSONP, CORS is off unless the access.Gate says otherwise,
// and the arguments of the process, which may hold secrets, are not shown.
//
// A hub's names do not tell a virtual host from an app, so that all streams are
// __defaultVhost__'s, and the vhost is the first part of the app.
package srsapi
