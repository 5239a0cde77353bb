package desk

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// LabelCluster implements fleet.Hub.
func (d *Desk) LabelCluster(ctx context.Context, cluster string, set map[string]string, remove []string) (fleet.Cluster, error) {
	none := fleet.Cluster{}
	if err := checkLabels(set, remove); err != nil {
		return none, err
	}
	s, err := d.find(ctx, cluster)
	if err != nil {
		return none, err
	}
	defer s.mu.Unlock()
	if err := s.mayLabel(set, remove); err != nil {
		return none, err
	}
	if err := d.label(ctx, s, set, remove); err != nil {
		return none, err
	}
	out := none
	d.look(func(v View, now time.Time) { out, _ = v.Cluster(cluster, now) })
	return out, nil
}

// label changes what is assigned to a cluster that lets it be. s is locked.
func (l *ledger) label(ctx context.Context, s *spoke, set map[string]string, remove []string) error {
	e := entry{Action: "label", Detail: map[string]any{"set": set, "remove": remove}}
	origin := fleet.LabelOrigin{By: actorOf(ctx), Since: l.cfg.Now().UTC()}
	return l.change(ctx, s, e, func(in *fleet.Intent) { relabel(in, set, remove, origin) })
}

// labelsAtOnce is how many clusters are labelled at a time: enough that the
// store always has one to write.
const labelsAtOnce = 32

// LabelClusters implements fleet.Hub. All are looked at before the first is
// changed; each has its own entry in the audit log.
func (d *Desk) LabelClusters(ctx context.Context, clusters []string, set map[string]string, remove []string) ([]string, error) {
	names, err := fleet.Together(clusters)
	if err != nil {
		return nil, err
	}
	if err := checkLabels(set, remove); err != nil {
		return nil, err
	}
	each := func(ctx context.Context, name string, do func(*spoke) error) error {
		s, err := d.find(ctx, name)
		if err != nil {
			return err
		}
		defer s.mu.Unlock()
		if err := s.mayLabel(set, remove); err != nil {
			return err
		}
		return do(s)
	}
	for _, name := range names {
		if err := each(ctx, name, func(*spoke) error { return nil }); err != nil {
			return nil, err
		}
	}
	var done atomic.Int64
	g, labelCtx := errgroup.WithContext(ctx)
	g.SetLimit(labelsAtOnce)
	for _, name := range names {
		g.Go(func() error {
			if err := labelCtx.Err(); err != nil {
				return err
			}
			err := each(labelCtx, name, func(s *spoke) error { return d.label(labelCtx, s, set, remove) })
			if err == nil {
				done.Add(1)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fleet.WithHint(fleet.Unavailable("%d of %d clusters were labelled: %w", done.Load(), len(names), err),
			"the same command does the rest")
	}
	return names, nil
}

func relabel(in *fleet.Intent, set map[string]string, remove []string, origin fleet.LabelOrigin) {
	for _, k := range remove {
		if _, ok := in.Labels[k]; ok {
			delete(in.Labels, k)
			delete(in.Origins, k)
			in.Removed = append(in.Removed, k)
		}
	}
	for k, v := range set {
		if old, ok := in.Labels[k]; ok && old == v {
			continue // whoever set it first set it
		}
		if in.Labels == nil {
			in.Labels = make(map[string]string)
		}
		if in.Origins == nil {
			in.Origins = make(map[string]fleet.LabelOrigin)
		}
		in.Labels[k], in.Origins[k] = v, origin
	}
	in.Removed = slices.DeleteFunc(in.Removed, func(k string) bool { _, ok := in.Labels[k]; return ok })
	slices.Sort(in.Removed)
}

func checkLabels(set map[string]string, remove []string) error {
	if len(set) == 0 && len(remove) == 0 {
		return fleet.Invalid("no label to set or remove")
	}
	if err := fleet.ValidateLabels(set); err != nil {
		return err
	}
	for _, k := range remove {
		if err := fleet.ValidateLabel(k, ""); err != nil {
			return err
		}
		if _, both := set[k]; both {
			return fleet.Invalid("label %q can't be set and removed at once", k)
		}
	}
	return nil
}

// mayLabel checks what the spoke lets the hub do.
func (s *spoke) mayLabel(set map[string]string, remove []string) error {
	declared := func(k string) error {
		return fleet.WithHint(fleet.Conflict("%s is declared at the spoke and can't be changed from the hub", k),
			fmt.Sprintf("change cluster.labels in the configuration of %s's agent", s.name))
	}
	for _, k := range slices.Sorted(maps.Keys(set)) {
		if _, ok := s.rec.Report.Declared[k]; ok {
			return declared(k)
		}
		if s.rec.Epoch == 0 {
			return fleet.WithHint(fleet.Unavailable("cluster %s has not reported yet, so what may be assigned there is not known", s.name),
				"wait for its agent to start")
		}
		if !slices.Contains(s.rec.Report.Assignable, k) {
			return fleet.WithHint(fleet.Conflict("%s is not assignable on cluster %s", k, s.name),
				"add it to cluster.assignableLabels in the agent's configuration")
		}
	}
	for _, k := range remove {
		_, isDeclared := s.rec.Report.Declared[k]
		if _, assigned := s.intent.Labels[k]; isDeclared && !assigned {
			return declared(k)
		}
	}
	return nil
}
