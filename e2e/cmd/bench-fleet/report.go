package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// entry is one size's numbers, as bench.json has them.
type entry struct {
	Agents      int     `json:"agents"`
	Apps        int     `json:"apps"`        // in all
	EnrolS      float64 `json:"enrol_s"`     // every agent has its credential
	ConnectS    float64 `json:"connect_s"`   // all agents started at once, until all have reported all
	LabelAllS   float64 `json:"label_all_s"` // one label on every cluster, until every agent has it; the median of five
	LabelWorstS float64 `json:"label_all_worst_s"`
	ResyncS     float64 `json:"resync_s"`  // kill -9 of the hub, until all have reported to the next one
	RebuildS    float64 `json:"rebuild_s"` // of that: the view, from disk
	QueryP50MS  float64 `json:"query_p50_ms"`
	QueryP99MS  float64 `json:"query_p99_ms"`  // apps of 1 % of the clusters by selector, while reports come
	Reports     float64 `json:"reports_per_s"` // that came meanwhile
	RSSMiB      float64 `json:"rss_mib"`       // the most at rest: after connecting, and after the kill
	RSSPeakMiB  float64 `json:"rss_peak_mib"`  // the most ever
	CPUIdlePct  float64 `json:"cpu_idle_pct"`  // of one core, heartbeats alone
}

func printTable(w io.Writer, entries []entry) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(what, unit string, value func(entry) any) {
		fmt.Fprintf(t, "%s\t", what)
		for _, e := range entries {
			if f, ok := value(e).(float64); ok {
				fmt.Fprintf(t, "%.2f\t", f)
			} else {
				fmt.Fprintf(t, "%v\t", value(e))
			}
		}
		fmt.Fprintf(t, "  %s\t\n", unit)
	}
	row("agents", "", func(e entry) any { return e.Agents })
	row("apps", "", func(e entry) any { return e.Apps })
	row("enrol", "s", func(e entry) any { return e.EnrolS })
	row("connect, and report all", "s", func(e entry) any { return e.ConnectS })
	row("label all", "s", func(e entry) any { return e.LabelAllS })
	row("  the slowest of five", "s", func(e entry) any { return e.LabelWorstS })
	row("kill -9, until all reported anew", "s", func(e entry) any { return e.ResyncS })
	row("  the view from disk", "s", func(e entry) any { return e.RebuildS })
	row("query p50", "ms", func(e entry) any { return e.QueryP50MS })
	row("query p99", "ms", func(e entry) any { return e.QueryP99MS })
	row("  reports meanwhile", "1/s", func(e entry) any { return e.Reports })
	row("memory at rest", "MiB RSS", func(e entry) any { return e.RSSMiB })
	row("memory, peak", "MiB RSS", func(e entry) any { return e.RSSPeakMiB })
	row("CPU, heartbeats alone", "% of a core", func(e entry) any { return e.CPUIdlePct })
	_ = t.Flush() // a table that can't be printed is no reason to lose the numbers
}
