package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/capstan-gitops/capstan/e2e/gitserver"
)

// sourceReport is section source of bench.json.
type sourceReport struct {
	Apps          int     `json:"apps"`
	Files         int     `json:"files"`
	Floor         cloned  `json:"floor"`          // git clone --depth=1
	FloorBlobless cloned  `json:"floor_blobless"` // and --filter=blob:none
	Clone         cloned  `json:"clone"`
	DecideMS      float64 `json:"decide_ms"`

	CloneS      float64 `json:"clone_s"`
	CloneBytes  int64   `json:"clone_bytes"`
	CommitBytes int64   `json:"commit_bytes"` // a commit of one file, with all apps in use
	Renders     int     `json:"renders"`      // that it causes
	RSSMiB      bySize  `json:"rss_mib"`      // of the agent, some time after the sync
	PeakMiB     bySize  `json:"peak_rss_mib"`

	Few sourceCluster `json:"cluster_20"`
	All sourceCluster `json:"cluster_1000"`
}

type cloned struct {
	S float64 `json:"s"`
	traffic
}

// bySize is of the cluster that uses a few apps, and of the one that uses all.
type bySize struct {
	Few float64 `json:"apps_20"`
	All float64 `json:"apps_1000"`
}

// sourceCluster is one cluster's numbers.
type sourceCluster struct {
	SyncS            float64 `json:"sync_s"` // from the agent's start until every App is Ready
	Sync             traffic `json:"sync"`   // with the Git server meanwhile
	PollBytes        int64   `json:"poll_bytes"`
	CommitS          float64 `json:"commit_s"`
	CommitBytes      int64   `json:"commit_bytes"`
	CommitRequests   int64   `json:"commit_requests"`
	Renders          int     `json:"renders"`
	ElsewhereBytes   int64   `json:"elsewhere_bytes"` // a commit of a file that is not used
	ElsewhereRenders int     `json:"elsewhere_renders"`
	RSSMiB           float64 `json:"-"`
	PeakMiB          float64 `json:"-"`

	sync gitserver.Traffic
}

// fold puts what is asked for by name where it is looked for.
func (r *sourceReport) fold() {
	for _, c := range []*sourceCluster{&r.Few, &r.All} {
		c.Sync = newTraffic(c.sync)
	}
	r.CloneS, r.CloneBytes = r.Clone.S, r.Clone.Bytes
	r.CommitBytes, r.Renders = r.All.CommitBytes, max(r.Few.Renders, r.All.Renders)
	r.RSSMiB = bySize{r.Few.RSSMiB, r.All.RSSMiB}
	r.PeakMiB = bySize{r.Few.PeakMiB, r.All.PeakMiB}
}

func median(all []int64) int64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

func printSource(w io.Writer, r sourceReport) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	kib := func(n int64) string { return fmt.Sprintf("%.1f KiB", float64(n)/1024) }
	fmt.Fprintf(t, "\nsource: %d apps, %d files\ttime\ttransfer\trequests\n", r.Apps, r.Files)
	for _, c := range []struct {
		name string
		cloned
	}{{"floor: git clone --depth=1", r.Floor}, {"floor: and --filter=blob:none", r.FloorBlobless}, {"clone", r.Clone}} {
		fmt.Fprintf(t, "%s\t%.2f s\t%s\t%d\n", c.name, c.S, kib(c.Bytes), c.Requests)
	}
	for _, c := range []struct {
		name string
		sourceCluster
	}{{fmt.Sprintf("%d apps in use", fewApps), r.Few}, {"all apps in use", r.All}} {
		fmt.Fprintf(t, "%s: start to all Ready\t%.1f s\t%s\t%d\n", c.name, c.SyncS, kib(c.Sync.Bytes), c.Sync.Requests)
		fmt.Fprintf(t, "  one poll\t\t%s\t\n", kib(c.PollBytes))
		fmt.Fprintf(t, "  a commit of one file that is used, %d renders\t%.2f s\t%s\t%d\n", c.Renders, c.CommitS, kib(c.CommitBytes), c.CommitRequests)
		fmt.Fprintf(t, "  a commit of one that is not, %d renders\t\t%s\t\n", c.ElsewhereRenders, kib(c.ElsewhereBytes))
		fmt.Fprintf(t, "  agent's memory, after the sync / peak\t%.1f / %.1f MiB\t\t\n", c.RSSMiB, c.PeakMiB)
	}
	fmt.Fprintf(t, "deciding what to render\t%.3f ms\t\t\n\n", r.DecideMS)
	_ = t.Flush() // as for the other table
}
