// Package hooks calls web services as SRS does, with its HTTP callbacks' names and
// JSON: services that were written for SRS need not know the difference.
//
//	on_connect on_publish on_play                          decide
//	on_close on_unpublish on_stop on_dvr on_hls            are told
//	on_hls_notify                                          is a GET of a URL with [app] and the like in it
//	on_forward_backend                                     is asked where to send a stream, see Callbacks.Forward
//
// Callbacks are an auth.Authorizer, to be given to the servers, and follow the hub:
//
//	calls := &hooks.Callbacks{Hub: hub, Auth: auth.AllowAll, URLs: hooks.URLs{
//		hooks.OnPublish: {"http://127.0.0.1:8085/api/v1/streams"},
//	}}
//	in := &ingest.Server{Hub: hub, Auth: calls}
//	go calls.Run(ctx)
//
// A service allows, or has taken notice, with a status of 200 or 201 and the body
// 0 or {"code": 0}. Anything else refuses a decision: another status, no answer in
// time, a redirect. Redirects are never followed. Nothing is retried that
// decides; what is told is sent again, with the same Idempotency-Key, until it is
// taken or Attempts are over.
//
// What concerns one stream reaches one service in order. on_connect comes when the
// peer says what it wants, since there is nothing to decide before; on_stop or
// on_unpublish, and then on_close, come once for each on_play or on_publish that
// was allowed.
package hooks
