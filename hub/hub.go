// Package hub wires the hub's rooms into one program: the embedded NATS server
// that agents dial, the ledger of what they report and what people want, and
// the API and the page over HTTP.
package hub

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/capstan-gitops/capstan/hub/api"
	"github.com/capstan-gitops/capstan/hub/broker"
	"github.com/capstan-gitops/capstan/hub/desk"
	"github.com/capstan-gitops/capstan/hub/hooks"
	"github.com/capstan-gitops/capstan/hub/metrics"
	"github.com/capstan-gitops/capstan/hub/notify"
	"github.com/capstan-gitops/capstan/hub/people"
	"github.com/capstan-gitops/capstan/hub/store"
	"github.com/capstan-gitops/capstan/hub/view"
	"github.com/capstan-gitops/capstan/hub/web"
	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

var (
	_ broker.Desk = (*desk.Spokes)(nil)
	_ desk.Link   = (*broker.Broker)(nil)
	_ desk.View   = (*view.View)(nil)
)

// Config of a hub.
type Config struct {
	DataDir string // everything the hub keeps: keys, state, tokens
	Listen  string // host:port of the API and the page
	URL     string // of the hub as people reach it; empty: http:// and the address listened on

	NATSListen   string   // host:port for agents
	NATSWSListen string   // the same over WebSocket; empty: none
	NATSURLs     []string // as agents dial them; empty: the addresses listened on
	NATSTLS      string   // auto, on or off; empty: auto, which is on unless only this machine gets there
	NATSCert     string   // with NATSKey: the certificate for agents; empty: of the hub's own CA
	NATSKey      string
	NATSCA       string // what agents are told to trust, or "system"; empty: NATSCert

	// With NATSKeys the hub runs no server: it uses the NATS servers at NATSURLs,
	// which were configured for the keys in that directory, with any number of
	// other hubs.
	NATSKeys      string
	NATSAgentURLs []string // as agents dial those servers; empty: NATSURLs
	NATSReplicas  int      // servers that keep each thing; 0: 3

	TokenFile  string // of the API; empty: DataDir/tokens, with an admin's token made at the first start
	AccessFile string // says who may do what; empty: what tokens carry is all that counts
	OIDC       OIDC
	// TrustedProxies are ranges of addresses from which X-Forwarded-For is believed.
	TrustedProxies []string

	HookSecretsFile string // of the forges' webhooks; empty: none are taken
	NotifyFile      string // whom to notify of what; empty: nobody

	MetricsListen string // host:port for Prometheus, /metrics; empty: none
	Version       string // of this program, shown in metrics

	// Free tells how much room a directory has, in bytes. Nil: asks the system.
	Free func(dir string) (uint64, error)

	// DrainDelay is how long a hub that is told to stop goes on as before, but for
	// /readyz: until whoever sends people here has seen that.
	DrainDelay time.Duration

	Log *slog.Logger
	// Started is called once everybody is let in. Nil: nobody is told.
	Started func(Addresses)

	meters *metrics.Metrics // made by Run
}

// Addresses are where a hub can be reached.
type Addresses struct {
	URL        string   // of the API and the page
	NATSURLs   []string // of the agents' end
	AdminToken string   // file with the administrator's token; empty: there is none
	Plain      bool     // agents connect without TLS
	Metrics    string   // host:port for Prometheus; empty: there is none
}

// Validate checks what can be known before the start. The error is ErrInvalid.
func (c Config) Validate() error {
	if c.DataDir == "" {
		return fleet.WithHint(fleet.Invalid("no data directory is named"), "name one with --data-dir")
	}
	if c.URL != "" && !validURL(c.URL, "http", "https") {
		return fleet.WithHint(fleet.Invalid("URL %q is not valid", c.URL), "write it as https://hub.example.com")
	}
	if err := cmp.Or(validateProxies(c.TrustedProxies), c.OIDC.Validate()); err != nil {
		return err
	}
	if c.DrainDelay < 0 || c.DrainDelay > maxDrainDelay {
		return fleet.Invalid("a drain delay of %s is not between 0 and %s", c.DrainDelay, maxDrainDelay)
	}
	if c.shared() && len(c.NATSURLs) == 0 {
		return fleet.WithHint(fleet.Invalid("keys for NATS servers are given, and no server"), "name them with --nats-url")
	}
	if c.NATSReplicas < 0 || c.NATSReplicas > 5 {
		return fleet.Invalid("%d servers can't keep each thing: 1, 3 and 5 make sense", c.NATSReplicas)
	}
	return c.broker().Validate()
}

func (c Config) broker() broker.Config {
	if c.shared() {
		return broker.Config{
			Servers: c.NATSURLs, Advertise: c.NATSAgentURLs, Keys: c.NATSKeys, CAFile: c.NATSCA,
			WSListen: c.NATSWSListen, CertFile: c.NATSCert, KeyFile: c.NATSKey, Log: c.Log,
		}
	}
	return broker.Config{
		Dir: c.DataDir, Listen: c.NATSListen, WSListen: c.NATSWSListen, Advertise: c.NATSURLs,
		TLS: broker.TLSMode(c.NATSTLS), CertFile: c.NATSCert, KeyFile: c.NATSKey, CAFile: c.NATSCA, Log: c.Log,
	}
}

// counted has the broker count what agents say.
func (c Config) counted(b broker.Config) broker.Config {
	b.Observe, b.Dropped = c.meters.AgentMessage, c.meters.AgentMessageDropped
	return b
}

// validURL takes an absolute URL of one of the schemes, without a credential.
func validURL(raw string, schemes ...string) bool {
	u, err := url.Parse(raw)
	return err == nil && u.Host != "" && u.User == nil && slices.Contains(schemes, u.Scheme)
}

// Run is a hub, until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := cfg.Validate(); err != nil {
		return err
	}
	told, err := loadNotifications(cfg)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	unlock, err := lock(cfg.DataDir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := checkFinished(cfg.DataDir); err != nil {
		return err
	}
	cfg.meters = metrics.New(cfg.Version)
	for i := range told.Routes { // shown before the first notification
		cfg.meters.Route(told.Routes[i].Name, told.Routes[i].Kind())
	}
	b, err := broker.Open(cfg.counted(cfg.broker()))
	if err != nil {
		return err
	}
	defer b.Close()
	err = serve(ctx, cfg, b, told)
	cfg.Log.Info("stopped")
	return err
}

// serve answers agents and people, until ctx ends and what is under way by then
// has ended too.
func serve(ctx context.Context, cfg Config, b *broker.Broker, told notify.Config) error {
	kept, err := openStore(ctx, cfg, b)
	if err != nil {
		return err
	}
	d, spokes, err := openDesk(ctx, cfg, b, kept)
	if err != nil {
		return err
	}
	front, err := openFront(ctx, cfg, d, kept.Bucket(store.Tokens))
	if err != nil {
		return err
	}
	defer front.close()
	front.disk = newRoom(cfg, b, kept)
	front.disk.look(ctx)
	cfg.meters.Watch(sources(d, kept, b))
	meters, err := openMeters(ctx, cfg)
	if err != nil {
		return err
	}
	defer meters.close()
	room, err := openControl(cfg, b.Instance(), kept)
	if err != nil {
		return err
	}
	defer room.close()
	if err := b.ServeOps(opsQueries(front.queries)); err != nil {
		return err
	}
	if err := b.Serve(spokes); err != nil {
		return err
	}
	urls, _ := b.Address()
	if cfg.Started != nil {
		cfg.Started(Addresses{URL: front.url, NATSURLs: urls, AdminToken: front.adminToken, Plain: !b.Secure(), Metrics: meters.address()})
	}
	// What was last heard is written down after nobody asks any more.
	keep, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var g errgroup.Group
	g.Go(func() error { return d.Run(keep) })
	g.Go(func() error {
		defer stop()
		defer meters.close()
		defer room.close()
		err := front.serve(ctx)
		cfg.drain(ctx, b)
		return err
	})
	g.Go(func() error { front.disk.watch(ctx); return nil })
	g.Go(meters.serve)
	g.Go(room.serve)
	g.Go(func() error { runNotifications(ctx, cfg, told, d, kept, front.url); return nil })
	g.Go(func() error { background(ctx, cfg, b, kept, d.Tend); return nil })
	return g.Wait()
}

func openStore(ctx context.Context, cfg Config, b *broker.Broker) (*store.KV, error) {
	js, err := b.JetStream()
	if err != nil {
		return nil, err
	}
	s, err := store.OpenKV(ctx, js, cfg.replicas())
	if err != nil {
		return nil, err
	}
	if cfg.shared() {
		b.KeepRevocations(revoked{s.Bucket(store.Revoked)})
	}
	return s, nil
}

// openDesk puts the ledger between the store and the link.
func openDesk(ctx context.Context, cfg Config, b *broker.Broker, s *store.KV) (*desk.Desk, *desk.Spokes, error) {
	from := time.Now()
	d, spokes, err := desk.New(ctx, desk.Config{
		Instance:  b.Instance(),
		Intents:   s.Bucket(store.Intent),
		Statuses:  s.Bucket(store.Status),
		Clusters:  s.Bucket(store.Clusters),
		Joins:     s.Bucket(store.Joins),
		Approvals: s.Bucket(store.Approvals),
		Audit:     s.Log(),
		Changes:   s.Changes(),
		View:      view.New(),
		Link:      countedLink{b, cfg.meters},
		Shared:    cfg.shared(),
		Log:       cfg.Log,
	})
	if err != nil {
		return nil, nil, err
	}
	cfg.Log.InfoContext(ctx, "read the state", "seconds", time.Since(from).Seconds())
	return d, spokes, nil
}

// front is the side people see.
type front struct {
	log        *slog.Logger
	listener   net.Listener
	server     *http.Server
	url        string
	adminToken string
	queries    *api.Queries
	ready      atomic.Bool
	disk       *room
	delay      time.Duration // before it stops
}

// openFront makes the handlers and listens, without answering yet.
func openFront(ctx context.Context, cfg Config, d *desk.Desk, service store.Bucket) (*front, error) {
	f := &front{log: cfg.Log, url: cfg.URL, delay: cfg.DrainDelay}
	known, sign, err := cfg.OIDC.open(d)
	if err != nil {
		return nil, err
	}
	var provider people.Provider
	if known != nil {
		provider = known
	}
	who, adminToken, err := openPeople(cfg, service, d, provider)
	if err != nil {
		return nil, err
	}
	f.adminToken = adminToken
	var lc net.ListenConfig
	if f.listener, err = lc.Listen(ctx, "tcp", cfg.Listen); err != nil {
		return nil, fleet.WithHint(fmt.Errorf("listen for people: %w", err), "name another address with --listen")
	}
	if f.url == "" {
		f.url = "http://" + f.listener.Addr().String()
	}
	handler, err := f.handler(cfg, d, who, known, sign)
	if err != nil {
		f.close()
		return nil, err
	}
	f.server = &http.Server{
		Handler:           originOf(cfg.TrustedProxies, cfg.meters.HTTP(handler)),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	return f, nil
}

func (f *front) handler(cfg Config, d *desk.Desk, who *people.People, known *people.OIDC, sign *client.SignIn) (http.Handler, error) {
	sessions := web.NewSessions(nil)
	guard := who.Guard(d)
	f.queries = api.NewQueries(guard, who, broker.MaxOpsAnswer, cfg.Log)
	calls, err := api.New(api.Config{Hub: guard, People: who, GitPushed: guard.GitPushed, Logins: sessions, SignIn: sign, URL: cfg.URL, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	shown := web.Config{Hub: guard, People: who, Sessions: sessions, URL: cfg.URL, Log: cfg.Log}
	if known != nil {
		shown.SignIn = known
	}
	pages, err := web.New(shown)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !f.ready.Load() {
			say(w, http.StatusServiceUnavailable, "not ready")
			return
		}
		if err := f.disk.err(); err != nil {
			say(w, http.StatusServiceUnavailable, err.Error()+
				"\nhint: "+fleet.Hint(err))
			return
		}
		say(w, http.StatusOK, "ok")
	})
	mux.Handle("/api/", calls)
	mux.Handle("/hooks/git", calls)
	forges, err := openHooks(cfg, d)
	if err != nil {
		return nil, err
	}
	mux.Handle(hooks.Prefix, forges)
	mux.Handle("/", pages)
	return mux, nil
}

func say(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	fmt.Fprintln(w, text)
}

func (f *front) close() {
	if f.server != nil {
		f.server.Close()
	}
	f.listener.Close()
}
