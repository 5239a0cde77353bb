package web

import (
	"cmp"
	"errors"
	"net/http"
	"slices"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	// maxColumns is how many clusters are columns of a table. More than that are
	// cells that flow beside the app's name, so that a page never scrolls sideways.
	maxColumns = 6
	// maxCells is how many cells an app has on the page of the whole fleet. What
	// needs somebody comes first; the rest is counted, and a link away.
	maxCells = 24
)

// fleetPage is every app on every cluster.
type fleetPage struct {
	Selector string
	Problem  string // with the selector
	Hint     string
	Totals   totals
	Clusters []fleet.Cluster
	Columns  bool // clusters are columns
	Rows     []fleetRow
}

func (p fleetPage) liveURL() string {
	if p.Problem != "" {
		return ""
	}
	return withSelector("/live/", p.Selector)
}

func (p fleetPage) status() int {
	if p.Problem != "" {
		return http.StatusBadRequest
	}
	return http.StatusOK
}

// fleetRow is one app.
type fleetRow struct {
	App   fleet.AppName
	Cells []cell
	Rest  []restGroup
	Total int
}

// cell is one app on one cluster. Without a status the app is not there.
type cell struct {
	Cluster string
	Status  *fleet.AppStatus
}

// restGroup counts cells that are not shown, by what they would say.
type restGroup struct {
	Count  int
	Sync   fleet.Sync
	Health fleet.Health
	Stale  bool
}

// totals sum the fleet up.
type totals struct{ Clusters, Stale, Apps, Waiting, Failing, Moving, Held, Quiet int }

func (s *site) fleet(r *http.Request, _ bool) (any, error) {
	p := fleetPage{Selector: r.URL.Query().Get("selector")}
	clusters, err := s.Hub.Clusters(r.Context(), fleet.ClusterFilter{Selector: p.Selector})
	var apps []fleet.AppStatus
	if err == nil {
		apps, err = s.Hub.Apps(r.Context(), fleet.AppFilter{Selector: p.Selector})
	}
	if errors.Is(err, fleet.ErrInvalid) && p.Selector != "" {
		p.Problem, p.Hint = err.Error(), fleet.Hint(err)
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	p.Clusters, p.Columns = clusters, len(clusters) <= maxColumns
	p.Totals = sum(clusters, apps)
	p.Rows = rows(clusters, apps, p.Columns)
	return p, nil
}

func sum(clusters []fleet.Cluster, apps []fleet.AppStatus) totals {
	t := totals{Clusters: len(clusters)}
	for _, c := range clusters {
		if c.Stale {
			t.Stale++
		}
	}
	seen := map[fleet.AppName]bool{}
	for _, a := range apps {
		seen[a.Name()] = true
		switch r := rank(a); {
		case a.Stale: // counted by cluster
		case r == quietRank:
			t.Quiet++
		case a.Health == fleet.Degraded || a.Health == fleet.Missing || a.Sync == fleet.SyncUnknown:
			t.Failing++
		case a.Pending != nil || a.Sync == fleet.Pending:
			t.Waiting++
		case a.IsHeld():
			t.Held++
		default:
			t.Moving++
		}
	}
	t.Apps = len(seen)
	return t
}

func rows(clusters []fleet.Cluster, apps []fleet.AppStatus, columns bool) []fleetRow {
	byApp := map[fleet.AppName][]fleet.AppStatus{}
	for _, a := range apps {
		byApp[a.Name()] = append(byApp[a.Name()], a)
	}
	out := make([]fleetRow, 0, len(byApp))
	for name, on := range byApp {
		row := fleetRow{App: name, Total: len(on)}
		if columns {
			row.Cells = columnCells(clusters, on)
		} else {
			row.Cells, row.Rest = flowCells(on)
		}
		out = append(out, row)
	}
	slices.SortFunc(out, func(a, b fleetRow) int { return a.App.Compare(b.App) })
	return out
}

func columnCells(clusters []fleet.Cluster, on []fleet.AppStatus) []cell {
	out := make([]cell, len(clusters))
	for i, c := range clusters {
		out[i] = cell{Cluster: c.Cluster}
		if j := slices.IndexFunc(on, func(a fleet.AppStatus) bool { return a.Cluster == c.Cluster }); j >= 0 {
			out[i].Status = &on[j]
		}
	}
	return out
}

// flowCells shows all of a few, and of many what needs somebody. A silent
// cluster says that of itself once: it is counted here, not shown with each app.
func flowCells(on []fleet.AppStatus) (cells []cell, rest []restGroup) {
	sortByRank(on)
	groups := map[restGroup]int{}
	for i, a := range on {
		if len(cells) < maxCells && (len(on) <= maxCells || rank(a) != quietRank && !a.Stale) {
			cells = append(cells, cell{Cluster: a.Cluster, Status: &on[i]})
			continue
		}
		groups[restGroup{Sync: a.Sync, Health: a.Health, Stale: a.Stale}]++
	}
	for g, n := range groups {
		g.Count = n
		rest = append(rest, g)
	}
	slices.SortFunc(rest, func(a, b restGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Sync, b.Sync), cmp.Compare(a.Health, b.Health))
	})
	return cells, rest
}

func sortByRank(on []fleet.AppStatus) {
	slices.SortStableFunc(on, func(a, b fleet.AppStatus) int { return cmp.Compare(rank(a), rank(b)) })
}
