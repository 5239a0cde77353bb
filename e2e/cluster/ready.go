package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const readyPoll = 50 * time.Millisecond

// waitReady waits until a part does its work, the way others notice it.
func (c *Cluster) waitReady(ctx context.Context, part Part) error {
	var ready func(context.Context) error
	switch part {
	case Etcd:
		ready = c.etcdReady
	case APIServer:
		ready = c.apiServerReady
	case ControllerManager:
		ready = c.podsAdmitted
	case FakeKubelet:
		ready = c.nodesReady
	default:
		ready = func(context.Context) error { return nil }
	}
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		p, ok := c.running(part)
		if !ok {
			return fmt.Errorf("%s: %w", part, errEnded)
		}
		select {
		case <-p.Done():
			return fmt.Errorf("%s: %w: %w\n%s", part, errEnded, p.Err(), p.LogTail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %w\n%s", part, err, ctx.Err(), p.LogTail())
		case <-tick.C:
		}
	}
}

func (c *Cluster) etcdReady(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.etcdURL+"/health", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("health: %s", resp.Status)
	}
	return nil
}

func (c *Cluster) apiServerReady(ctx context.Context) error {
	client, err := adminClient(c.Kubeconfig())
	if err != nil {
		return err
	}
	return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
}

// podsAdmitted is later than the API server's readyz: a pod needs the default
// ServiceAccount, which the controller-manager makes.
func (c *Cluster) podsAdmitted(ctx context.Context) error {
	client, err := adminClient(c.Kubeconfig())
	if err != nil {
		return err
	}
	_, err = client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
	return err
}

func (c *Cluster) nodesReady(ctx context.Context) error {
	client, err := adminClient(c.Kubeconfig())
	if err != nil {
		return err
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	ready := 0
	for _, n := range nodes.Items {
		if len(n.Status.Conditions) > 0 {
			ready++
		}
	}
	if ready < c.opts.Nodes {
		return errors.New("nodes are missing")
	}
	return nil
}

// errEnded is why a part that ended will not get ready.
var errEnded = errors.New("ended")
