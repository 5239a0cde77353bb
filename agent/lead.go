package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/capstan-gitops/capstan/agent/reconcile"
)

// leaseName is shared by Deployment and DaemonSet: one agent works on a cluster.
const leaseName = "capstan-agent"

// lead waits for the Lease and works while it is held. A container that crashed
// and starts again has the host name and the process id it had, and so goes on
// at once; anybody else waits until the Lease runs out.
//
// Leader election does not fence: who loses the Lease ends, and what it still
// writes meanwhile is refused by compare-and-swap.
func (a *agent) lead(asked context.Context, work func(context.Context) error) error {
	leases, err := coordinationv1.NewForConfig(a.api)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	// The Lease outlives the work, and is then given back: the next agent begins
	// when this one has written its last.
	held, giveBack := context.WithCancel(context.WithoutCancel(asked))
	defer giveBack()
	var led atomic.Bool
	defer context.AfterFunc(asked, func() {
		if led.Load() {
			time.AfterFunc(shutdownTimeout, giveBack) // the work may not end
			return
		}
		giveBack()
	})()
	done := make(chan error, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Name: leaseName, Namespace: a.cfg.Namespace},
			Client:     leases,
			LockConfig: resourcelock.ResourceLockConfig{Identity: fmt.Sprintf("%s-%d", host, os.Getpid())},
		},
		LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 4 * time.Second,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) {
				led.Store(true)
				a.log.Info("this agent leads")
				ctx, stop := context.WithCancelCause(leading)
				defer stop(nil)
				defer context.AfterFunc(asked, func() { stop(reconcile.ErrAsked) })()
				done <- work(ctx)
				giveBack()
			},
			OnStoppedLeading: func() {},
			OnNewLeader:      func(identity string) { a.holder.Store(&identity) },
		},
	})
	if err != nil {
		return err
	}
	elector.Run(held)
	if !led.Load() {
		return nil // asked to end before it ever led
	}
	select {
	case err = <-done:
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	case <-time.After(shutdownTimeout):
		// The work does not end: the process does.
	}
	if asked.Err() == nil {
		return errLeaseLost
	}
	return nil
}

// serve answers HTTP until the returned function is called.
func serve(addr string, h http.Handler, log *slog.Logger) (func(), error) {
	var listen net.ListenConfig
	l, err := listen.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
	go func() {
		if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			log.Error("the server for probes and metrics ended", "error", err)
		}
	}()
	log.Info("answering probes and Prometheus", "listen", l.Addr().String())
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
		defer cancel()
		_ = s.Shutdown(ctx) // nothing is lost with a probe
	}, nil
}
