package api_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/api/mediaprom"
	"github.com/runnel-media/runnel/api/prom"
	"github.com/runnel-media/runnel/auth/limit"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/turn"
)

// A dashboard is Grafana's, as far as it needs it to load.
type dashboard struct {
	UID           string
	Title         string
	SchemaVersion int
	Time          struct{ From, To string }
	Templating    struct{ List []variable }
	Panels        []panel
}

type variable struct {
	Name, Type string
	Query      any
	Definition string
	Datasource *source
}

type source struct{ Type, UID string }

type panel struct {
	ID         int
	Type       string
	Title      string
	Datasource *source
	GridPos    struct{ H, W, X, Y int }
	Targets    []struct {
		RefID      string
		Expr       string
		Datasource source
	}
}

// exported are the metrics that there are, with what histograms add.
func exported() map[string]bool {
	all := map[string]bool{}
	name := regexp.MustCompile(`fqName: "([^"]+)"`)
	hub := &stream.Hub{}
	for _, c := range []prometheus.Collector{
		&mediaprom.Media{Hub: hub}, mediaprom.Limits{Limiter: &limit.Limiter{}}, &prom.TURN{Server: &turn.Server{}},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		out := make(chan *prometheus.Desc, 1000)
		c.Describe(out)
		close(out)
		for d := range out {
			m := name.FindStringSubmatch(d.String())[1]
			all[m] = true
			if strings.HasSuffix(m, "_seconds") || m == "runnel_session_stalls" {
				all[m+"_bucket"], all[m+"_count"], all[m+"_sum"] = true, true, true
			}
		}
	}
	return all
}

// TestDashboards: the dashboards have what Grafana needs to load them, ask for
// metrics that there are, and leave the data source to whoever loads them.
func TestDashboards(t *testing.T) {
	files, err := filepath.Glob("../docs/grafana/*.json")
	require.NoError(t, err)
	require.Len(t, files, 2)
	metrics := exported()
	metric := regexp.MustCompile(`\b(runnel|go|process)_[a-z0-9_]+`)
	used := regexp.MustCompile(`\$\{?([a-z]+)\}?`)
	uids := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var d dashboard
		require.NoError(t, json.Unmarshal(text, &d))
		require.Regexp(t, `^[a-zA-Z0-9_-]{1,40}$`, d.UID)
		require.False(t, uids[d.UID])
		uids[d.UID] = true
		require.NotEmpty(t, d.Title)
		require.GreaterOrEqual(t, d.SchemaVersion, 36)
		require.NotEmpty(t, d.Time.From)
		require.Equal(t, "datasource", d.Templating.List[0].Type)
		require.Equal(t, "prometheus", d.Templating.List[0].Query)
		variables := map[string]bool{"__rate_interval": true}
		check := func(expr string) {
			names := metric.FindAllString(expr, -1)
			require.NotEmpty(t, names, expr)
			for _, name := range names {
				require.True(t, metrics[name], "%s asks for %s, which nobody exports", file, name)
			}
			for _, v := range used.FindAllStringSubmatch(strings.ReplaceAll(expr, "$__rate_interval", ""), -1) {
				require.True(t, variables[v[1]], "%s: variable %s", expr, v[1])
			}
			require.Equal(t, strings.Count(expr, "("), strings.Count(expr, ")"), expr)
			require.Equal(t, strings.Count(expr, "{"), strings.Count(expr, "}"), expr)
		}
		for _, v := range d.Templating.List {
			if v.Type == "query" {
				require.Equal(t, &source{"prometheus", "${datasource}"}, v.Datasource)
				check(v.Definition)
			}
			variables[v.Name] = true
		}
		ids, taken := map[int]bool{}, map[[2]int]bool{}
		for _, p := range d.Panels {
			require.False(t, ids[p.ID], "two panels are %d", p.ID)
			ids[p.ID] = true
			require.NotEmpty(t, p.Title)
			require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24)
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					require.False(t, taken[[2]int{x, y}], "%s lies over another panel", p.Title)
					taken[[2]int{x, y}] = true
				}
			}
			if p.Type == "row" {
				continue
			}
			require.Contains(t, []string{"timeseries", "stat", "table"}, p.Type)
			require.Equal(t, &source{"prometheus", "${datasource}"}, p.Datasource)
			require.NotEmpty(t, p.Targets)
			for _, q := range p.Targets {
				require.NotEmpty(t, q.RefID)
				require.Equal(t, source{"prometheus", "${datasource}"}, q.Datasource)
				check(q.Expr)
			}
		}
	}
}
