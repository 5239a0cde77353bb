// Package fakekubelet plays every kubelet of a cluster that has no machines: it
// keeps nodes Ready and walks the pods bound to them through their life.
//
// What a pod does is chosen by its own words:
//
//	image contains "broken"            ImagePullBackOff for ever
//	image contains "crash"             CrashLoopBackOff for ever
//	annotation fake/ready-after: 5s    not Ready before
//	annotation fake/run-for: 5s        how long a pod that ends runs (200ms)
//	annotation fake/fail: "true"       and that it ends Failed, not Succeeded
package fakekubelet

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
)

const (
	workers        = 8
	heartbeatEvery = 10 * time.Second
)

// Config says which cluster, and how many nodes to play there.
type Config struct {
	Kubeconfig string
	Nodes      int
}

// Run plays until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	rest, err := clientcmd.BuildConfigFromFlags("", cfg.Kubeconfig)
	if err != nil {
		return fmt.Errorf("fakekubelet: %w", err)
	}
	rest.QPS, rest.UserAgent = -1, "kubelet"
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return fmt.Errorf("fakekubelet: %w", err)
	}
	nodes := make(map[string]bool, cfg.Nodes)
	for i := range cfg.Nodes {
		nodes[fmt.Sprintf("node-%d", i)] = true
	}
	return (&kubelets{client: client, nodes: nodes}).run(ctx)
}

type kubelets struct {
	client kubernetes.Interface
	nodes  map[string]bool
	pods   corelisters.PodLister
	queue  workqueue.TypedRateLimitingInterface[string]
}

func (k *kubelets) run(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(k.client, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.FieldSelector = "spec.nodeName!=" }))
	informer := factory.Core().V1().Pods()
	k.pods = informer.Lister()
	k.queue = workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](100*time.Millisecond, 10*time.Second))
	add := func(obj any) {
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj); err == nil {
			k.queue.Add(key)
		}
	}
	handlers := cache.ResourceEventHandlerFuncs{AddFunc: add, UpdateFunc: func(_, obj any) { add(obj) }}
	if _, err := informer.Informer().AddEventHandler(handlers); err != nil {
		return fmt.Errorf("fakekubelet: %w", err)
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())

	var all sync.WaitGroup
	all.Go(func() { k.keepNodes(ctx) })
	for range workers {
		all.Go(func() { k.work(ctx) })
	}
	<-ctx.Done()
	k.queue.ShutDown()
	all.Wait()
	factory.Shutdown()
	return nil
}

func (k *kubelets) work(ctx context.Context) {
	for {
		key, quit := k.queue.Get()
		if quit {
			return
		}
		again, err := k.sync(ctx, key)
		switch {
		case err == nil || apierrors.IsNotFound(err):
			k.queue.Forget(key)
			if again > 0 {
				k.queue.AddAfter(key, again)
			}
		default:
			if !apierrors.IsConflict(err) {
				slog.Warn("pod status not written", "pod", key, "error", err)
			}
			k.queue.AddRateLimited(key)
		}
		k.queue.Done(key)
	}
}

// sync moves one pod along and says when it wants to be looked at again.
func (k *kubelets) sync(ctx context.Context, key string) (again time.Duration, err error) {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return 0, err
	}
	pod, err := k.pods.Pods(namespace).Get(name)
	if err != nil || !k.nodes[pod.Spec.NodeName] {
		return 0, err
	}
	pods := k.client.CoreV1().Pods(namespace)
	if pod.DeletionTimestamp != nil {
		now := int64(0)
		return 0, pods.Delete(ctx, name, metav1.DeleteOptions{
			GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &pod.UID},
		})
	}
	status, again := Step(pod, time.Now())
	if status == nil {
		return again, nil
	}
	pod = pod.DeepCopy()
	pod.Status = *status
	_, err = pods.UpdateStatus(ctx, pod, metav1.UpdateOptions{})
	return again, err
}

func podReady(s corev1.PodStatus) bool {
	for _, c := range s.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
