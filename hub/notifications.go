package hub

import (
	"context"
	"crypto/rand"

	"github.com/capstan-gitops/capstan/hub/desk"
	"github.com/capstan-gitops/capstan/hub/notify"
	"github.com/capstan-gitops/capstan/hub/store"
)

var (
	_ notify.Fleet  = (*desk.Desk)(nil)
	_ notify.Bucket = store.Bucket(nil)
)

// loadNotifications reads who is to be notified; nobody, without a file.
func loadNotifications(cfg Config) (notify.Config, error) {
	if cfg.NotifyFile == "" {
		return notify.Config{}, nil
	}
	return notify.Load(cfg.NotifyFile)
}

// runNotifications notifies until ctx ends, while no other hub on the same
// store does.
func runNotifications(ctx context.Context, cfg Config, to notify.Config, people *desk.Desk, kept store.Store, url string) {
	if len(to.Routes) == 0 {
		return
	}
	store.Lead(ctx, kept.Bucket(store.Leases), "notifications", rand.Text(), func(ctx context.Context) {
		n := notify.New(notify.NotifierConfig{Routes: to.Routes, Fleet: people, Told: kept.Bucket(store.Notified), URL: url, Observe: cfg.meters.Notified, Log: cfg.Log})
		if err := n.Run(ctx); err != nil {
			cfg.Log.ErrorContext(ctx, "notifications ended", "error", err)
		}
	})
}
