package main

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// traced is an object with the app, commit and cluster it comes from.
type traced struct {
	Cluster   string         `json:"cluster"`
	Namespace string         `json:"namespace"`
	App       string         `json:"app"`
	Revision  fleet.Revision `json:"revision"`
	Path      string         `json:"path"`
	fleet.Object
}

type traceFlags struct {
	where
	namespace string
	format    format
}

const (
	traceAtOnce = 8
	// maxTraced is how many apps are looked through: each is asked of its cluster.
	maxTraced = 500
)

func newTrace(s *shell) *cobra.Command {
	var f traceFlags
	c := &cobra.Command{
		Use:   "trace KIND/NAME",
		Short: "Tell which app, commit and cluster an object comes from",
		Long: `Tell which app, commit and cluster an object comes from. KIND is a kind with or
without its group: Deployment, or deployment.apps. Every cluster that is asked
for is looked through.`,
		Example: `  capstan trace deployment/guestbook-ui -n shop
  capstan trace Service/guestbook-ui -l env=prod -o json`,
		Args: exactly("KIND/NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			return s.trace(c.Context(), args[0], f)
		},
	}
	f.addFlags(c, s)
	c.Flags().StringVarP(&f.namespace, "namespace", "n", "", "only in this namespace")
	addFormat(c, &f.format, formatJSON, formatYAML)
	return c
}

func (s *shell) trace(ctx context.Context, arg string, f traceFlags) error {
	kind, name, ok := strings.Cut(arg, "/")
	if !ok || kind == "" || name == "" {
		return usage("for instance deployment/guestbook-ui", "%q is not of the form KIND/NAME", arg)
	}
	if err := f.check(); err != nil {
		return err
	}
	h, err := s.hub()
	if err != nil {
		return err
	}
	apps, err := h.Apps(ctx, fleet.AppFilter{Selector: f.selector, Clusters: f.clusters})
	if err != nil {
		return err
	}
	if len(apps) == 0 {
		if err := f.checkKnown(ctx, h); err != nil {
			return err
		}
	}
	if len(apps) > maxTraced {
		return usage("narrow it with --cluster or -l", "%d apps would have to be looked through, at most %d are", len(apps), maxTraced)
	}
	found, failed := s.search(ctx, h, apps, func(o fleet.ObjectRef) bool {
		return o.Name == name && isKind(o, kind) && (f.namespace == "" || o.Namespace == f.namespace)
	})
	if len(found) == 0 {
		return errors.Join(fleet.WithHint(fleet.NotFound("no app owns %s%s", arg, f.phrase()),
			"an object that nobody applied from Git has no owner here"), failed)
	}
	if f.format != formatTable {
		return s.encode(client.List[traced]{Items: found}, f.format)
	}
	p := &printer[traced]{s: s, t: table[traced]{
		what:    "objects",
		columns: []string{"CLUSTER", "APP", "REVISION", "PATH", "OBJECT", "HEALTH", "MESSAGE"},
		row: func(t traced) []string {
			return []string{
				t.Cluster, t.Namespace + "/" + t.App, dash(t.Revision.Short()), dash(t.Path), t.Object.Object.String(), string(t.Health), dash(t.Message),
			}
		},
	}}
	return p.print(found, false)
}

// search looks through what apps own. One silent cluster does not hide the
// others; what could not be looked at is said, and returned.
func (s *shell) search(ctx context.Context, h hub, apps []fleet.AppStatus, match func(fleet.ObjectRef) bool) ([]traced, error) {
	var mu sync.Mutex
	byApp := make([][]traced, len(apps))
	var failed error
	var g errgroup.Group
	g.SetLimit(traceAtOnce)
	for i, a := range apps {
		g.Go(func() error {
			objects, err := h.Tree(ctx, a.Cluster, a.Name())
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				s.say("%s on %s: %s", a.Name(), a.Cluster, err)
				failed = err
			}
			for _, o := range objects {
				if match(o.Object) {
					byApp[i] = append(byApp[i], traced{a.Cluster, a.Namespace, a.App, a.Revision, a.Path, o})
				}
			}
			return nil
		})
	}
	_ = g.Wait() // each says its own failure
	var out []traced
	for _, found := range byApp {
		out = append(out, found...)
	}
	return out, failed
}

// isKind takes a kind with or without its group, in any case.
func isKind(o fleet.ObjectRef, kind string) bool {
	return strings.EqualFold(kind, o.Kind) || o.Group != "" && strings.EqualFold(kind, o.Kind+"."+o.Group)
}
