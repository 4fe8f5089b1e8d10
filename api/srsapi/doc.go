// Package srsapi answers the routes of SRS's HTTP API (port 1985 there), so that
// tools written for SRS work with a stream.Hub:
//
//	GET    /api/v1/versions summaries features authors requests
//	GET    /api/v1/rusages self_proc_stats system_proc_stats meminfos
//	GET    /api/v1/vhosts[/ID]
//	GET    /api/v1/streams[/ID]     ?start= &count=
//	GET    /api/v1/clients[/ID]     ?start= &count=
//	DELETE /api/v1/clients/ID       kicks
//	GET    /api/v1/raw?rpc=raw      other rpc: code 1061, as it is off
//	GET    /api/v1/clusters         of a server that is in none
//
// Answers have SRS's envelope {code, server, service, pid, data} and its
// statuses: what is not found is a 200 with code 2048 or 2049, and a path that
// is not there gets the list of those that are. Some things differ, for safety:
// there is no JSONP, CORS is off unless the access.Gate says otherwise, nobody is
// let in from elsewhere without credentials (see Basic), and neither the arguments
// of the process nor the queries of its peers, which may be secrets, are shown.
package srsapi
