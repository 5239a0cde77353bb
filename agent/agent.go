// Package agent wires the rooms of the spoke's agent together: it reads the
// configuration, waits for the Lease, and runs until it is told to end or loses
// the Lease.
package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/discovery"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/transport"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/charts"
	"github.com/capstan-gitops/capstan/agent/health"
	"github.com/capstan-gitops/capstan/agent/images"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/keyring"
	"github.com/capstan-gitops/capstan/agent/metrics"
	"github.com/capstan-gitops/capstan/agent/reconcile"
	"github.com/capstan-gitops/capstan/agent/record"
	"github.com/capstan-gitops/capstan/agent/render"
	"github.com/capstan-gitops/capstan/agent/secrets"
	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/tracing"
	"github.com/capstan-gitops/capstan/agent/uplink"
	"github.com/capstan-gitops/capstan/agent/watch"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Run runs an agent until ctx ends. It returns an error when the configuration
// is wrong, when the Lease is lost, or when another agent is found at work.
func Run(ctx context.Context, cfg Config, agentVersion string, log *slog.Logger) error {
	cfg.setDefaults()
	if err := cfg.Validate(); err != nil {
		return err
	}
	policy, err := cfg.Approval.Policy(os.ReadFile)
	if err != nil {
		return err
	}
	mirrors, err := images.New(cfg.Images)
	if err != nil {
		return err
	}
	checks, err := cfg.checks()
	if err != nil {
		return err
	}
	var times clock
	traces, endTraces, err := openTraces(ctx, cfg, agentVersion, log)
	if err != nil {
		return err
	}
	defer endTraces()
	counts := newMetrics(agentVersion)
	api, err := restConfig(cfg.Kubeconfig, counts.API, times.wrap, bounded(requestWithin))
	if err != nil {
		return err
	}
	a := &agent{cfg: cfg, version: agentVersion, log: log, api: api, times: &times, counts: counts, traces: traces}
	a.sources = cfg.sources(len(policy.Rules) > 0)
	a.sources.Fetched = meter{counts, traces}.fetched
	if _, err := source.New(a.sources.Own); err != nil { // its files are there
		return fmt.Errorf("source: %w", err)
	}
	a.engineConfig = reconcile.Config{
		Cluster: cfg.Cluster.Name, Namespace: cfg.Namespace, Declared: cfg.Cluster.Labels, Assignable: cfg.Cluster.AssignableLabels,
		RootPath: cfg.Source.Path, Policy: policy,
		Guard:  inventory.Guard{MaxObjects: cfg.Prune.MaxObjects, MaxPercent: cfg.Prune.MaxPercent},
		HubMay: cfg.Hub.May, AgentVersion: agentVersion, Workers: cfg.Workers, Images: mirrors, ApplyAs: cfg.ApplyAs, Checks: checks, ValuesPoll: cfg.Source.PollInterval.Duration,
		StuckAfter: max(stuckAfter, 5*cfg.Render.Timeout.Duration),
	}
	stop, err := a.serveProbes()
	if err != nil {
		return err
	}
	defer stop()
	return a.lead(ctx, a.work)
}

type agent struct {
	cfg          Config
	version      string
	log          *slog.Logger
	api          *rest.Config
	times        *clock
	sources      source.PoolConfig
	engineConfig reconcile.Config
	counts       *metrics.Metrics
	traces       *tracing.Tracer // nil: there are none
	probes       probes
	holder       atomic.Pointer[string] // of the Lease, when last it was seen; nil: it was not
	starting     atomic.Bool            // it leads, and not all rooms are at work yet, or they end
}

// keys are made at the first start and stay at the spoke.
type keys struct {
	Mask        []byte `json:"mask"`        // hides secret values in what leaves the spoke
	Fingerprint []byte `json:"fingerprint"` // of live objects
}

const keysName = "capstan-keys"

// work runs while this process holds the Lease.
func (a *agent) work(ctx context.Context) (err error) {
	a.starting.Store(true)
	a.counts.Leads()
	store, err := state.New(a.api, a.cfg.Namespace)
	if err != nil {
		return err
	}
	k, err := loadKeys(ctx, store)
	if err != nil {
		return err
	}
	if err := a.learnCluster(ctx); err != nil {
		return err
	}
	kept, err := charts.New(charts.Config{Entries: a.cfg.Charts})
	if err != nil {
		return err
	}
	renderer, err := render.New(render.Config{MemoryLimit: a.cfg.Render.MemoryMiB << 20, Timeout: a.cfg.Render.Timeout.Duration, Log: a.log, Charts: kept})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, renderer.Close()) }()
	return a.assemble(ctx, store, k, renderer)
}

// assemble introduces the rooms to each other and runs them.
func (a *agent) assemble(ctx context.Context, store *state.Store, k keys, renderer *render.Renderer) error {
	cluster, err := apply.New(a.api, k.Fingerprint)
	if err != nil {
		return err
	}
	// The watches and the uplink call the engine, which is made after them.
	var engine *reconcile.Engine
	judge := func(u *unstructured.Unstructured) health.State { return engine.Judge(u) }
	eyes, err := watch.New(a.api, k.Fingerprint, judge, func(ev watch.Event) { engine.Seen(ev) }, a.log)
	if err != nil {
		return err
	}
	recorder, err := record.New(a.api, reconcile.ConfirmAnnotation, func(n fleet.AppName) { engine.AppSeen(n) }, a.log)
	if err != nil {
		return err
	}
	named, err := secrets.New(a.api)
	if err != nil {
		return err
	}
	sources, err := source.NewPool(a.sources, kept[source.Kept]{store, headName}, named, a.log)
	if err != nil {
		return err
	}
	token, err := a.cfg.Hub.joinToken()
	if err != nil {
		return err
	}
	spoke := &spoke{}
	link, err := uplink.New(uplink.Config{Token: token, Cluster: a.cfg.Cluster.Name, HeartbeatEvery: a.cfg.Hub.Heartbeat.Duration, Log: a.log}, spoke, kept[uplink.Kept]{store, uplinkName})
	if err != nil {
		return err
	}
	rings, closeRings, err := a.rings(named)
	if err != nil {
		return err
	}
	defer closeRings()
	cfg := a.engineConfig
	cfg.MaskKey, cfg.KeysEvery = k.Mask, a.cfg.Source.PollInterval.Duration
	engine = reconcile.New(cfg, reconcile.Parts{
		Sources: sources, Renderer: renderer, Keys: rings, Cluster: clusters{cluster}, Eyes: eyes, Memory: store, Record: recorder, Reports: link, Now: a.times.Now, Meter: meter{a.counts, a.traces},
	}, a.log)
	spoke.Engine = engine
	if err := engine.Load(ctx); err != nil {
		return err
	}
	a.times.saw(engine.Floor())
	a.watchOver(engine, sources, eyes, recorder, store)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { recorder.Run(ctx); return nil })
	g.Go(func() error { return engine.Run(ctx) })
	if link.HasHub() {
		g.Go(func() error { return link.Run(ctx) })
	} else {
		a.log.Info("no hub is configured: the agent works alone")
	}
	a.starting.Store(false)
	err = g.Wait()
	a.starting.Store(true)
	eyes.Wait()
	return err
}

// rings gives apps their keys. The program that asks key services is there if it
// is needed.
func (a *agent) rings(named keyring.Secrets) (*keyring.Keys, func(), error) {
	if !a.cfg.Decryption.HasKMS() {
		rings, err := keyring.New(a.cfg.Decryption, a.cfg.Namespace, named, nil)
		return rings, func() {}, err
	}
	clouds, err := keyring.NewProgram(keyring.ProgramConfig{})
	if err != nil {
		return nil, nil, err
	}
	rings, err := keyring.New(a.cfg.Decryption, a.cfg.Namespace, named, clouds)
	return rings, clouds.Close, err
}

// clusters gives the engine who acts for an app.
type clusters struct{ *apply.Client }

var _ reconcile.Clusters = clusters{}

func (c clusters) As(app fleet.AppName, account string) reconcile.Cluster {
	return c.Client.As(app, account)
}

// spoke lets the uplink know the engine that is made after it.
type spoke struct{ *reconcile.Engine }

var _ uplink.Spoke = (*spoke)(nil)

// The Secrets that keep the uplink's credentials, and which commits were followed.
const (
	uplinkName = "capstan-uplink"
	headName   = "capstan-head"
)

// kept keeps one value in a Secret.
type kept[K any] struct {
	store *state.Store
	name  string
}

var (
	_ uplink.Vault = kept[uplink.Kept]{}
	_ source.Heads = kept[source.Kept]{}
)

func (k kept[K]) Load(ctx context.Context) (K, error) {
	var v K
	_, err := k.store.Load(ctx, k.name, &v)
	return v, err
}

func (k kept[K]) Save(ctx context.Context, v K) error { return k.store.Save(ctx, k.name, v) }

func loadKeys(ctx context.Context, store *state.Store) (keys, error) {
	var k keys
	found, err := store.Load(ctx, keysName, &k)
	if err != nil || found {
		return k, err
	}
	k = keys{Mask: make([]byte, 32), Fingerprint: make([]byte, 32)}
	_, _ = rand.Read(k.Mask) // crypto/rand never fails
	_, _ = rand.Read(k.Fingerprint)
	return k, store.Save(ctx, keysName, k)
}

// learnCluster asks once for what identifies the cluster.
func (a *agent) learnCluster(ctx context.Context) error {
	core, err := typedcorev1.NewForConfig(a.api)
	if err != nil {
		return err
	}
	system, err := core.Namespaces().Get(ctx, "kube-system", metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("the cluster's identity, the uid of namespace kube-system: %w", err)
	}
	a.engineConfig.UID = string(system.UID)
	disco, err := discovery.NewDiscoveryClientForConfig(a.api)
	if err != nil {
		return err
	}
	var v *version.Info
	if v, err = disco.ServerVersion(); err != nil {
		return fmt.Errorf("the API server's version: %w", err)
	}
	a.engineConfig.KubernetesVersion = v.GitVersion
	return nil
}

// restConfig says how the API server is reached. wraps are put around its
// transport, the first innermost.
func restConfig(kubeconfig string, wraps ...transport.WrapperFunc) (*rest.Config, error) {
	cfg, err := rest.InClusterConfig()
	if kubeconfig != "" {
		cfg, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	if err != nil {
		return nil, fleet.WithHint(fmt.Errorf("no way to the API server: %w", err),
			"run the agent in a pod with its ServiceAccount, or name a file with --kubeconfig")
	}
	cfg.QPS = -1 // the API server's own flow control is the limit
	cfg.UserAgent = "capstan-agent"
	for _, w := range wraps {
		cfg.Wrap(w)
	}
	return cfg, nil
}

// errLeaseLost ends the process: what it began may be going on elsewhere.
var errLeaseLost = errors.New("the Lease was lost to another agent")

const shutdownTimeout = 5 * time.Second

// stuckAfter is how long work on an app may not go on before the agent is to be
// started anew. Requests have 70 s, renders 60 where nothing else is configured.
const stuckAfter = 15 * time.Minute
