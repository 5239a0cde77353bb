// Package uplink is the agent's end of the link to the hub: it reports what
// the agent knows, and brings in what people want.
//
// It dials out and nothing dials in. While the hub is away everything waits:
// of each app the latest status alone. What must survive a restart (the
// agent's key, its credential, the last intent) lies in a Vault at the spoke.
package uplink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/signing"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// Config of an uplink.
type Config struct {
	// Token is a join token's content. It is used once; with credentials kept
	// from before it may be empty, or still be the same. Without both there is no
	// hub, and only SignPlan is of use.
	Token          string
	Cluster        string
	HeartbeatEvery time.Duration // 0: DefaultHeartbeat
	// Proxy tells which HTTP proxy a WebSocket goes through. Nil: what HTTPS_PROXY
	// and NO_PROXY say.
	Proxy func(*http.Request) (*url.URL, error)
	// SwitchAfter is how long a link that was up may be down before the hub's
	// other URLs are tried. 0: a minute.
	SwitchAfter time.Duration
	// DeadAfter is how long the server may take to answer on a line where a
	// heartbeat was not answered, before that is given up. 0: half a minute, so that
	// a server to which ten thousand agents come at once is not made to take each
	// twice.
	DeadAfter time.Duration
	// LearnEvery is how often on one connection the hub may say that it is to be
	// found elsewhere, or trusted by another CA. 0: every five minutes.
	LearnEvery time.Duration
	Log        *slog.Logger
}

// DefaultHeartbeat is how often an agent says that it lives.
const DefaultHeartbeat = 10 * time.Second

// Spoke is what the uplink needs of the agent around it. Its methods may be
// called from several goroutines.
type Spoke interface {
	// Report is said with every heartbeat; AgentKey and Interval are filled in.
	Report() fleet.ClusterReport
	// Statuses are all there are; they are sent anew after every connect. A
	// status must be in here before Changed is called with it.
	Statuses() []fleet.AppStatus
	// TakeIntent is called with the intent kept from before, once, when Run
	// begins, and then only with newer ones of the accepted hub instance. After
	// an error it is called again.
	TakeIntent(ctx context.Context, in fleet.Intent) error
	// Plan returns the plan that waits. ErrNotFound: there is none.
	Plan(app fleet.AppName) (fleet.SignedPlan, error)
	// History returns what was applied, newest first. ErrNotFound: no such app.
	History(app fleet.AppName) ([]fleet.HistoryEntry, error)
	// Tree returns the objects an app owns. ErrNotFound: no such app.
	Tree(app fleet.AppName) ([]fleet.Object, error)
	// GitPushed says that somebody pushed to a repository.
	GitPushed(p fleet.Push)
}

// Vault keeps what must survive a restart.
type Vault interface {
	// Load returns what was kept, or the zero value.
	Load(ctx context.Context) (Kept, error)
	// Save replaces what the last Load or Save saw. ErrConflict: another process
	// wrote since.
	Save(ctx context.Context, k Kept) error
}

// Kept is what a Vault holds. The seeds and the JWT are secrets.
type Kept struct {
	Seed     string       `json:"seed"`               // of the agent's nkey
	JWT      string       `json:"jwt,omitempty"`      // that the hub gave for it
	URLs     []string     `json:"urls,omitempty"`     // of the hub's NATS
	OldURLs  []string     `json:"oldURLs,omitempty"`  // from before, until the hub was reached at one of URLs
	CA       string       `json:"ca,omitempty"`       // PEM
	Before   *Before      `json:"before,omitempty"`   // what counted before the hub named others
	Join     string       `json:"join,omitempty"`     // id of the token that was used
	Instance string       `json:"instance,omitempty"` // of the hub that was accepted
	Epoch    uint64       `json:"epoch"`
	Intent   fleet.Intent `json:"intent"`

	// While the agent joins anew: the key to come, and for which token.
	NextSeed string `json:"nextSeed,omitempty"`
	NextJoin string `json:"nextJoin,omitempty"`
}

// Before is where the hub was and what it was trusted by, before it named others.
// No hub can take it away until its time is up: it is tried where all else fails.
type Before struct {
	URLs  []string  `json:"urls"`
	CA    string    `json:"ca,omitempty"` // PEM
	Until time.Time `json:"until"`
}

// ErrSuperseded: another process of this agent has raised the epoch, so this
// one is no longer the one that speaks.
var ErrSuperseded = errors.New("another agent process has taken over")

// Uplink is the link. Create it with New.
type Uplink struct {
	cfg   Config
	spoke Spoke
	vault Vault
	token *wire.JoinToken
	out   *outbox

	// whole: on the connection there is, the hub has acknowledged all there was.
	whole atomic.Bool

	saving sync.Mutex // one change at a time
	mu     sync.Mutex
	kept   Kept
	key    nkeys.KeyPair
	pub    string
}

// vaultWithin bounds how long the vault may take.
const vaultWithin = 30 * time.Second

// New reads the vault, and makes the agent's key at the first start. The error
// is ErrInvalid where the token can't be used.
func New(cfg Config, spoke Spoke, vault Vault) (*Uplink, error) {
	if err := fleet.ValidateName("cluster", cfg.Cluster); err != nil {
		return nil, err
	}
	if cfg.HeartbeatEvery == 0 {
		cfg.HeartbeatEvery = DefaultHeartbeat
	}
	if cfg.HeartbeatEvery < wire.MinInterval || cfg.HeartbeatEvery > wire.MaxInterval {
		return nil, fleet.Invalid("a heartbeat every %s is not between %s and %s", cfg.HeartbeatEvery, wire.MinInterval, wire.MaxInterval)
	}
	if cfg.Proxy == nil {
		cfg.Proxy = http.ProxyFromEnvironment
	}
	if cfg.SwitchAfter <= 0 {
		cfg.SwitchAfter = switchAfter
	}
	if cfg.DeadAfter <= 0 {
		cfg.DeadAfter = deadAfter
	}
	if cfg.LearnEvery <= 0 {
		cfg.LearnEvery = learnEvery
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	u := &Uplink{cfg: cfg, spoke: spoke, vault: vault, out: newOutbox()}
	if cfg.Token != "" {
		t, err := wire.ParseJoinToken(cfg.Token)
		if err != nil {
			return nil, err
		}
		if t.Cluster != cfg.Cluster {
			return nil, fleet.WithHint(fleet.Invalid("join token: it is for cluster %q, this is %q", t.Cluster, cfg.Cluster),
				"make one with: capstan join "+cfg.Cluster)
		}
		u.token = &t
	}
	ctx, cancel := context.WithTimeout(context.Background(), vaultWithin)
	defer cancel()
	return u, u.unlock(ctx)
}

// unlock loads what was kept.
func (u *Uplink) unlock(ctx context.Context) error {
	kept, err := u.vault.Load(ctx)
	if err != nil {
		return fmt.Errorf("load the agent's state: %w", err)
	}
	if kept.Seed == "" {
		seed, err := newSeed()
		if err != nil {
			return err
		}
		kept.Seed = seed
		if err := u.vault.Save(ctx, kept); err != nil {
			return fmt.Errorf("save the agent's state: %w", err)
		}
	}
	return u.adopt(kept)
}

// adopt takes what is kept as what counts.
func (u *Uplink) adopt(k Kept) error {
	key, pub, err := keyOf(k.Seed)
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.kept, u.key, u.pub = k, key, pub
	return nil
}

// change alters what is kept, in the vault first. ErrSuperseded: another
// process changed it.
func (u *Uplink) change(ctx context.Context, alter func(*Kept)) error {
	u.saving.Lock()
	defer u.saving.Unlock()
	next := u.state()
	alter(&next)
	ctx, cancel := context.WithTimeout(ctx, vaultWithin)
	defer cancel()
	err := u.vault.Save(ctx, next)
	if errors.Is(err, fleet.ErrConflict) {
		return fmt.Errorf("%w: %w", ErrSuperseded, err)
	}
	if err != nil {
		return fmt.Errorf("save the agent's state: %w", err)
	}
	return u.adopt(next)
}

func (u *Uplink) state() Kept {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.kept
}

// HasHub tells whether there is a hub to connect to: a join token, or
// credentials kept from before.
func (u *Uplink) HasHub() bool { return u.token != nil || u.state().JWT != "" }

// Settled tells whether the hub has acknowledged all that there is to say.
func (u *Uplink) Settled() bool { return u.whole.Load() && u.out.empty() }

// SignPlan signs a plan with the agent's key. It needs no hub.
func (u *Uplink) SignPlan(p fleet.Plan) (fleet.SignedPlan, error) {
	u.mu.Lock()
	key, pub := u.key, u.pub
	u.mu.Unlock()
	return signing.SignPlan(key.Sign, pub, p)
}

// Changed queues an app's status. It never blocks; of each app the latest wins.
func (u *Uplink) Changed(s fleet.AppStatus) { u.out.put(s.Name(), &s) }

// Gone queues that an app is not there any more.
func (u *Uplink) Gone(a fleet.AppName) { u.out.put(a, nil) }

// keyOf reads a user's seed. The error never holds any of it.
func keyOf(seed string) (nkeys.KeyPair, string, error) {
	key, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		return nil, "", errors.New("the agent's key is damaged")
	}
	pub, err := key.PublicKey()
	if err != nil || !nkeys.IsValidPublicUserKey(pub) {
		return nil, "", errors.New("the agent's key is damaged")
	}
	return key, pub, nil
}

func newSeed() (string, error) {
	kp, err := nkeys.CreateUser()
	if err != nil {
		return "", err
	}
	seed, err := kp.Seed()
	return string(seed), err
}
