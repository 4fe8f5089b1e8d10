// Package api joins the parts of a control plane into one http.Handler: REST and
// events of the media (api/mediaapi), of recordings (api/recordapi), of relays
// (api/relayapi) and of TURN (api/turnapi), SRS's routes (api/srsapi), metrics (api/mediaprom, api/prom) and health. Who may call is an
// access.Gate's to say (api/access).
//
//	gate := &access.Gate{Auth: access.Tokens{token}, Log: log}
//	h := &api.Handler{
//		Media:   &mediaapi.Handler{Hub: hub, Gate: gate},
//		SRS:     &srsapi.Handler{Hub: hub, Gate: gate},
//		Metrics: gate.Guard(access.Viewer, metrics.Handler()),
//	}
//
// It imports none of the parts, so that a host links the roles that it has. What they
// answer is in docs/api.md.
package api
