package health_test

import (
	"testing"

	"github.com/capstan-gitops/capstan/agent/health"
)

func TestWhyAPodDoesNotRun(t *testing.T) {
	for _, c := range []struct{ name, body, want string }{
		{"a pod that runs", "status: {phase: Running, containerStatuses: [{state: {running: {}}}]}", ""},
		{"a pod that starts", "status: {phase: Pending, containerStatuses: [{state: {waiting: {reason: ContainerCreating}}}]}", ""},
		{"a pod that never was looked at", "spec: {}", ""},
		{"an image that is not there", "status: {containerStatuses: [{state: {waiting: {reason: ImagePullBackOff, message: \"Back-off pulling\\nimage x\"}}}]}", "web-1: ImagePullBackOff: Back-off pulling image x"},
		{
			"a program that ends", "status: {containerStatuses: [{state: {waiting: {reason: CrashLoopBackOff, message: back-off 5m0s}}, lastState: {terminated: {reason: OOMKilled, exitCode: 137}}}]}",
			"web-1: CrashLoopBackOff: back-off 5m0s (it ended with OOMKilled, code 137)",
		},
		{"a first container that fails", "status: {initContainerStatuses: [{state: {terminated: {reason: Error, exitCode: 2}}}], containerStatuses: [{state: {waiting: {reason: PodInitializing}}}]}", "web-1: Error: the container ended with code 2"},
		{"a job's pod that is done", "status: {phase: Succeeded, containerStatuses: [{state: {terminated: {reason: Completed, exitCode: 0}}}]}", ""},
		{"a pod without a node", "status: {phase: Pending, conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable, message: '0/3 nodes are available'}]}", "web-1: Unschedulable: 0/3 nodes are available"},
		{"a pod that was evicted", "status: {phase: Failed, reason: Evicted, message: disk pressure}", "web-1: Evicted: disk pressure"},
		{"a pod on its way out", "metadata: {name: web-1, deletionTimestamp: '2026-01-01T00:00:00Z'}\nstatus: {phase: Failed, reason: Evicted}", ""},
		{"a status that is none", "status: {containerStatuses: [1, {state: yes}], conditions: 3}", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			pod := parse(t, "v1 Pod", c.body)
			pod.SetName("web-1")
			if got := health.PodTrouble(pod); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestOnlyWorkloadsSelectPods(t *testing.T) {
	for _, c := range []struct{ kind, body, want string }{
		{"apps/v1 Deployment", "spec: {selector: {matchLabels: {app: web}, matchExpressions: [{key: tier, operator: In, values: [a, b]}]}}", "app=web,tier in (a,b)"},
		{"apps/v1 Deployment", "spec: {selector: {}}", ""},
		{"v1 Service", "spec: {selector: {app: web}}", ""},
		{"v1 ConfigMap", "data: {a: b}", ""},
		{"apps/v1 Deployment", "spec: {selector: {matchExpressions: [{key: tier, operator: Near}]}}", ""},
	} {
		u := parse(t, c.kind, c.body)
		u.SetNamespace("shop")
		if got := health.PodSelector(u); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.kind, c.body, got, c.want)
		}
		if u.SetNamespace(""); health.PodSelector(u) != "" {
			t.Errorf("%s: what is in no namespace has no pods", c.kind)
		}
	}
}
