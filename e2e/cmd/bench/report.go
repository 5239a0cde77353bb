package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// entry is one size's numbers, as bench.json has them.
type entry struct {
	Apps      int     `json:"apps"`
	FloorS    float64 `json:"floor_s"`
	ColdS     float64 `json:"cold_s"`
	ColdRatio float64 `json:"cold_ratio"`
	SettledS  float64 `json:"settled_s"` // until every App says Ready
	// ColdRequests are all of the agent's until then, without Events, Leases and
	// watches: by "verb resource".
	ColdRequests map[string]int `json:"cold_requests"`

	All       all       `json:"all"`
	OneCommit oneCommit `json:"one_commit"`
	Idle      idle      `json:"idle"`
	Drift     drift     `json:"drift"`
	RSSMiB    rss       `json:"rss_mib"`
	CPUS      cpu       `json:"cpu_s"`
}

// all is the commit that changes every object.
type all struct {
	FloorS   float64        `json:"floor_s"` // the same change by plain applies
	S        float64        `json:"s"`
	Ratio    float64        `json:"ratio"`
	Requests map[string]int `json:"requests"`
}

type oneCommit struct {
	Renders  int      `json:"renders"`
	Requests int      `json:"requests"` // the most of any round; without Events, Leases and watches
	Which    []string `json:"which"`
	P50S     float64  `json:"p50_s"`
}

type idle struct {
	Minutes  float64        `json:"minutes"`
	Requests map[string]int `json:"requests"` // "verb resource"
}

type drift struct {
	P50S float64 `json:"p50_s"`
	P99S float64 `json:"p99_s"`
}

type rss struct {
	Idle       float64 `json:"idle"`
	Peak       float64 `json:"peak"`
	WorkerPeak float64 `json:"worker_peak"`
}

type cpu struct {
	Cold       float64 `json:"cold"`
	IdlePerMin float64 `json:"idle_per_min"`
}

func printTable(w io.Writer, entries []entry) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nwhat\t\tunit")
	for _, e := range entries {
		n := e.Apps * kindsPerApp
		fmt.Fprintf(t, "apps\t%d\t(%d objects)\n", e.Apps, n)
		fmt.Fprintf(t, "floor: plain client-go, %d workers\t%.2f\ts\n", floorWorkers, e.FloorS)
		fmt.Fprintf(t, "cold: push to all applied\t%.2f\ts\n", e.ColdS)
		fmt.Fprintf(t, "  objects per second\t%.0f\t1/s\n", float64(n)/e.ColdS)
		fmt.Fprintf(t, "  ratio to the floor\t%.1f\n", e.ColdRatio)
		fmt.Fprintf(t, "  until every App is Ready\t%.2f\ts\n", e.SettledS)
		fmt.Fprintf(t, "  requests\t%v\n", e.ColdRequests)
		fmt.Fprintf(t, "floor of a change to all\t%.2f\ts\n", e.All.FloorS)
		fmt.Fprintf(t, "change to all: push to all applied\t%.2f\ts\n", e.All.S)
		fmt.Fprintf(t, "  ratio to its floor\t%.1f\n", e.All.Ratio)
		fmt.Fprintf(t, "  requests\t%v\n", e.All.Requests)
		fmt.Fprintf(t, "one-app commit: push to changed, p50\t%.3f\ts\n", e.OneCommit.P50S)
		fmt.Fprintf(t, "  renders\t%d\n", e.OneCommit.Renders)
		fmt.Fprintf(t, "  requests\t%d\t%v\n", e.OneCommit.Requests, e.OneCommit.Which)
		fmt.Fprintf(t, "idle, %.1f minutes: requests\t%v\n", e.Idle.Minutes, e.Idle.Requests)
		fmt.Fprintf(t, "drift repaired, p50 / p99\t%.3f / %.3f\ts\n", e.Drift.P50S, e.Drift.P99S)
		fmt.Fprintf(t, "agent's memory, idle / peak\t%.1f / %.1f\tMiB RSS\n", e.RSSMiB.Idle, e.RSSMiB.Peak)
		fmt.Fprintf(t, "render worker's memory, peak\t%.1f\tMiB RSS\n", e.RSSMiB.WorkerPeak)
		fmt.Fprintf(t, "agent's CPU, cold / idle\t%.2f / %.3f\ts / s per minute\n\n", e.CPUS.Cold, e.CPUS.IdlePerMin)
	}
	_ = t.Flush() // a table that can't be printed is no reason to lose the numbers
}
