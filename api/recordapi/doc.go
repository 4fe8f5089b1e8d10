// Package recordapi is the REST interface to recordings: those that there are,
// which streams are being recorded, and clips of what is live.
//
//	GET    /api/v2/recordings            ?stream= &prefix= &session= &from= &to= &after=CURSOR &limit=N, the newest first
//	GET    /api/v2/recordings/NAME       NAME may have slashes
//	DELETE /api/v2/recordings/NAME       ?reason=
//	GET    /api/v2/recorders             the live streams, and whether they are recorded
//	GET    /api/v2/recorders/STREAM
//	PUT    /api/v2/recorders/STREAM      {"recording": true} starts, false stops
//	POST   /api/v2/clips                 {"stream": "live/cam", "last": 30}: a file of the last 30 seconds
//
// It is what api/mediaapi is in all else; both stand behind one access.Gate.
package recordapi
