package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/server/v3/embed"
)

const etcdReadyWithin = time.Minute

func runEtcd(args []string) error {
	flags := pflag.NewFlagSet("etcd", pflag.ContinueOnError)
	dir := flags.String("data-dir", "", "where the data is kept")
	client := flags.String("listen-client-url", "", "URL to serve clients at")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" || *client == "" {
		return errors.New("etcd: --data-dir and --listen-client-url are required")
	}
	clientURL, err := url.Parse(*client)
	if err != nil {
		return fmt.Errorf("etcd: --listen-client-url: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	server, err := embed.StartEtcd(etcdConfig(*dir, *clientURL))
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer server.Close()
	select {
	case <-server.Server.ReadyNotify():
	case err := <-server.Err():
		return fmt.Errorf("etcd: %w", err)
	case <-time.After(etcdReadyWithin):
		return fmt.Errorf("etcd: not ready after %s", etcdReadyWithin)
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-server.Err():
		return fmt.Errorf("etcd: %w", err)
	}
}

func etcdConfig(dir string, client url.URL) *embed.Config {
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	// A single member has no peers: any port will do.
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.UnsafeNoFsync = true // the data never outlives a test
	cfg.LogLevel = "error"
	cfg.QuotaBackendBytes = 4 << 30
	return cfg
}
