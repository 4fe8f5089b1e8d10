package archtest

// A layer is a floor of the building. A package imports from lower layers
// only; what it may import from its own is written beside it.
type layer int

const (
	leaf       layer = iota // standard library and small libraries
	vocabulary              // the words that everything above speaks
	format                  // containers: bytes to frames and back
	engine                  // protocols
	role                    // what a host composes
	extension               // one package per heavy dependency
	control                 // joins the roles for operators
	host                    // programs; imported by nobody
	harness                 // tests of the whole; imported by nobody outside harness
)

var layerNames = [...]string{"leaf", "vocabulary", "format", "engine", "role", "extension", "control", "host", "harness"}

func (l layer) String() string { return layerNames[l] }

// A place puts a package into a layer. A path that ends in "/..." places
// every package below it too; the longest match counts.
type place struct {
	path  string // below the module's root, "." is the root itself
	layer layer
	also  []string // packages of the same layer that it may import
}

var places = []place{
	{path: ".", layer: harness}, // documentation and examples

	{path: "internal/aac", layer: leaf},
	{path: "internal/ac3", layer: leaf},
	{path: "internal/amf", layer: leaf},
	{path: "internal/attempts", layer: leaf, also: []string{"internal/halfopen"}},
	{path: "internal/av1", layer: leaf},
	{path: "internal/callback", layer: leaf},
	{path: "internal/config", layer: leaf},
	{path: "internal/events", layer: leaf},
	{path: "internal/fanout", layer: leaf},
	{path: "internal/ffmpegtest", layer: leaf}, // for tests
	{path: "internal/h264", layer: leaf, also: []string{"internal/nal"}},
	{path: "internal/h265", layer: leaf, also: []string{"internal/nal"}},
	{path: "internal/halfopen", layer: leaf},
	{path: "internal/ipset", layer: leaf},
	{path: "internal/memnet", layer: leaf},
	{path: "internal/mp3", layer: leaf},
	{path: "internal/nal", layer: leaf},
	{path: "internal/name", layer: leaf},
	{path: "internal/opus", layer: leaf},
	{path: "internal/rawtcp", layer: leaf},
	{path: "internal/sdp", layer: leaf},
	{path: "internal/seek", layer: leaf},
	{path: "internal/stunwire", layer: leaf},
	{path: "internal/udp", layer: leaf},
	{path: "internal/vpx", layer: leaf},
	{path: "internal/webpage", layer: leaf},

	{path: "auth", layer: vocabulary},
	{path: "auth/limit", layer: vocabulary, also: []string{"auth"}},
	{path: "stream", layer: vocabulary},
	{path: "stun", layer: vocabulary},

	{path: "internal/flv", layer: format},
	{path: "internal/fmp4", layer: format},
	{path: "internal/mpegts", layer: format},
	{path: "internal/rtp", layer: format},
	{path: "stream/streamtest", layer: format},

	{path: "internal/admission", layer: engine},
	{path: "internal/dash", layer: engine, also: []string{"internal/hls"}}, // whose segments it describes
	{path: "internal/hls/...", layer: engine, also: []string{"internal/hls"}},
	{path: "internal/httpauth", layer: engine},
	{path: "internal/dtlsmux", layer: engine},
	{path: "internal/oneport", layer: engine, also: []string{"internal/proxyproto"}}, // in a test
	{path: "internal/proxyproto", layer: engine},
	{path: "internal/rtmp", layer: engine},
	{path: "internal/srt", layer: engine},
	{path: "internal/srtp", layer: format},
	{path: "internal/webrtc", layer: engine, also: []string{"internal/dtlsmux"}},

	{path: "deliver", layer: role},
	{path: "ingest", layer: role},
	{path: "record", layer: role},
	{path: "relay", layer: role},
	{path: "turn", layer: role},

	{path: "auth/...", layer: extension, also: []string{"auth/turnauth", "auth/sqlauth"}},
	{path: "auth/internal/conninfo", layer: leaf},
	{path: "deliver/...", layer: extension},
	{path: "ingest/...", layer: extension},
	{path: "record/...", layer: extension},
	{path: "relay/...", layer: extension},
	{path: "relay/whep", layer: extension, also: []string{"deliver/whep", "ingest/whip"}}, // whose clients it has
	{path: "stream/transcode/...", layer: extension, also: []string{"stream/transcode"}},

	{path: "api/access", layer: extension, also: []string{"auth/audit"}}, // before the handlers of every role
	{path: "api/...", layer: control, also: []string{"api/mediaapi", "api/turnapi", "api/srsapi", "api/prom", "api/mediaprom", "api/access", "api/internal/process", "api/internal/srsname", "api/declared", "api/tokens", "api/users", "api/recordapi", "api/relayapi", "api/console", "api/internal/rest", "api/internal/resttest", "api/internal/state"}},

	{path: "examples/...", layer: host},

	{path: "internal/apitest", layer: harness},
	{path: "internal/archtest", layer: harness},
	{path: "internal/bench/...", layer: harness, also: []string{"internal/bench/..."}},
	{path: "internal/e2e/...", layer: harness, also: []string{"internal/e2e/..."}},
}

// A module says in which layers the shipped code may import a third-party
// module. Tests and the harness may import any module of this list; a module
// that is not on it, nobody.
type module struct {
	path   string
	layers []layer
}

var modules = []module{
	{"github.com/Eyevinn/mp4ff", []layer{format, role}},
	{"github.com/asticode/go-astits", []layer{format}},
	{"github.com/bluenviron/mediacommon/v2", []layer{leaf, format}},
	{"github.com/go-sql-driver/mysql", []layer{extension}},
	{"github.com/goccy/go-yaml", []layer{leaf}},
	{"github.com/golang-jwt/jwt/v5", []layer{extension}},
	{"github.com/jackc/pgx/v5", []layer{extension}},
	{"github.com/nats-io/nats-server/v2", []layer{extension}},
	{"github.com/nats-io/nats.go", []layer{extension, host}},
	{"github.com/prometheus/client_golang", []layer{control}},
	{"github.com/redis/go-redis/v9", []layer{extension, control, host}},
	{"github.com/thesyncim/gopus", []layer{extension}},
	{"github.com/tphakala/go-aac", []layer{extension}}, // LGPL: in stream/transcode/goaac only
	{"golang.org/x/crypto", []layer{extension, host}},
	{"golang.org/x/net", []layer{leaf, engine}},
	{"golang.org/x/sys", []layer{leaf, engine, role, extension}},
	{"golang.org/x/text", []layer{vocabulary}},
	{"modernc.org/sqlite", []layer{extension}},

	{"github.com/Eyevinn/dash-mpd", nil},
	{"github.com/Eyevinn/hls-m3u8", nil},
	{"github.com/bluenviron/gortmplib", nil},
	{"github.com/chromedp/cdproto", nil},
	{"github.com/chromedp/chromedp", nil},
	{"github.com/coder/websocket", nil},
	{"github.com/datarhei/gosrt", nil},
	{"github.com/minio/minio-go/v7", []layer{extension}},
	{"github.com/pion/turn/v5", nil},
	{"github.com/stretchr/testify", nil},
	{"go.uber.org/goleak", nil},
	{"pgregory.net/rapid", nil},

	{"github.com/pion/dtls/v3", []layer{engine, role}},
	{"github.com/pion/ice/v4", []layer{engine, extension}},
	{"github.com/pion/interceptor", []layer{engine}},
	{"github.com/pion/rtcp", []layer{engine}},
	{"github.com/pion/rtp", []layer{format, engine}},
	{"github.com/pion/sdp/v3", []layer{engine}},
	{"github.com/pion/srtp/v3", []layer{format, engine}},
	{"github.com/pion/logging", []layer{engine}}, // to keep pion/dtls silent
	{"github.com/pion/stun/v2", []layer{vocabulary, role}},
	{"github.com/pion/stun/v4", []layer{engine}}, // the types that pion/ice takes
}

// An apart is a pair of package sets of which neither may link the other,
// directly or through anything: a host with one role links no code of the
// other.
type apart struct{ these, those []string }

var aparts = []apart{
	{
		these: []string{"turn", "stun", "api", "api/access", "api/turnapi", "api/prom", "api/statsdb"},
		those: []string{
			"stream/...", "ingest/...", "deliver/...", "relay/...", "record/...",
			"internal/amf", "internal/flv", "internal/fmp4", "internal/mpegts", "internal/h264", "internal/h265",
			"internal/rtmp", "internal/srt", "internal/webrtc", "internal/hls", "internal/dash",
		},
	},
	{
		these: []string{"stream", "ingest", "deliver", "relay", "record"},
		those: []string{"turn"},
	},
	{ // a host links the drivers that it wants
		these: []string{"auth/sqlauth/postgres"},
		those: []string{"auth/sqlauth/mysql", "auth/sqlauth/sqlite"},
	},
	{
		these: []string{"auth/sqlauth/mysql"},
		those: []string{"auth/sqlauth/sqlite"},
	},
}

// A ban keeps some names of a package out of the whole module, or of its
// shipped code only.
type ban struct {
	pkg    string
	names  []string // a trailing * matches any rest; nil bans the import itself
	tests  bool     // tests must not use them either
	except []layer
	why    string
}

var bans = []ban{
	{
		pkg: "github.com/pion/stun/v2", names: []string{"Dial*", "NewClient", "Decode"}, tests: true,
		why: "it dials with pion/dtls/v2, which has CVE-2026-26014 and no fix, and decodes what stands behind MESSAGE-INTEGRITY (use stun.Decode)",
	},
	{
		pkg: "github.com/runnel-media/runnel/stream/transcode/goaac", except: []layer{host, harness},
		why: "it links code under the LGPL: that is for a host to decide",
	},
	{
		pkg: "log", except: []layer{host, harness},
		why: "a library logs to the *slog.Logger that it is given",
	},
	{
		pkg: "fmt", names: []string{"Print", "Printf", "Println"}, except: []layer{host, harness},
		why: "standard output belongs to the host",
	},
}

// maxLines is how long a file of shipped code may be.
const maxLines = 500
