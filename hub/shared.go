package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/hub/broker"
	"github.com/capstan-gitops/capstan/hub/store"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// NATSServer is the configuration of a NATS server that hubs share.
type NATSServer = broker.ServerConfig

var _ broker.Revoked = revoked{}

// RotateCA makes a new CA for the certificates that a hub shows agents, in its
// data directory: see broker.RotateCA.
func RotateCA(dataDir string, grace time.Duration, now time.Time) error {
	return broker.RotateCA(filepath.Join(dataDir, "tls"), grace, now)
}

// RotateKeys makes new keys for signing credentials in a hub's directory of
// keys; what the old ones signed is good for the grace yet.
func RotateKeys(dir string, grace time.Duration, now time.Time) error {
	return broker.RotateKeys(dir, grace, now)
}

// shared tells whether other hubs may be at work on the same state.
func (c Config) shared() bool { return c.NATSKeys != "" }

// defaultReplicas survive the loss of one server.
const defaultReplicas = 3

func (c Config) replicas() int {
	switch {
	case !c.shared():
		return 1
	case c.NATSReplicas == 0:
		return defaultReplicas
	}
	return c.NATSReplicas
}

// revoked keeps revocations in a bucket. Keys of agents are capitals and digits,
// and those of a bucket are not.
type revoked struct{ bucket store.Bucket }

type revocation struct {
	Key string `json:"key"`
	At  int64  `json:"at"`
}

// revokeTries is how often a hub revokes again what others revoke meanwhile.
const revokeTries = 8

func (r revoked) Add(ctx context.Context, key string, at int64) error {
	value, err := json.Marshal(revocation{Key: key, At: at})
	if err != nil {
		return err
	}
	for range revokeTries {
		_, version, err := r.bucket.Get(ctx, strings.ToLower(key))
		if err != nil && !errors.Is(err, fleet.ErrNotFound) {
			return err
		}
		if _, err = r.bucket.Put(ctx, strings.ToLower(key), value, version); !errors.Is(err, fleet.ErrConflict) {
			return err
		}
	}
	return fleet.Unavailable("revoke: others revoke the same key all the time")
}

func (r revoked) All(ctx context.Context) (map[string]int64, error) {
	all := map[string]int64{}
	err := r.bucket.All(ctx, func(key string, value []byte, _ uint64) error {
		var one revocation
		if err := json.Unmarshal(value, &one); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		all[one.Key] = one.At
		return nil
	})
	return all, err
}

// affirmEvery is how often it is seen to that the servers know every revocation.
const affirmEvery = 30 * time.Second

// background is what one of several hubs does, and a hub that is alone does as
// well: it ends with ctx.
func background(ctx context.Context, cfg Config, b *broker.Broker, s *store.KV, work func(context.Context)) {
	if !cfg.shared() {
		work(ctx)
		return
	}
	host := b.Process()
	store.Lead(ctx, s.Bucket(store.Leases), "background", host, func(ctx context.Context) {
		cfg.Log.InfoContext(ctx, "this hub does what one alone does", "process", host)
		affirmed := make(chan struct{})
		go func() { defer close(affirmed); affirm(ctx, cfg, b) }()
		work(ctx)
		<-affirmed
	})
}

func affirm(ctx context.Context, cfg Config, b *broker.Broker) {
	t := time.NewTicker(affirmEvery)
	defer t.Stop()
	for {
		if err := b.Affirm(ctx); err != nil && ctx.Err() == nil {
			cfg.Log.WarnContext(ctx, "can't see whether the NATS servers know all revocations", "error", err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}
