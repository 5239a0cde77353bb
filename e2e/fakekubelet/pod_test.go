package fakekubelet_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/capstan-gitops/capstan/e2e/fakekubelet"
)

func TestStepWalksAPodThroughItsLife(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tests := []struct {
		name        string
		image       string
		restart     corev1.RestartPolicy
		annotations map[string]string
		age         time.Duration
		phase       corev1.PodPhase
		ready       corev1.ConditionStatus
		waiting     string
		again       time.Duration
	}{
		{name: "runs", image: "web:1", phase: corev1.PodRunning, ready: "True"},
		{
			name: "not ready yet", image: "web:1", annotations: map[string]string{fakekubelet.ReadyAfter: "5s"},
			age: time.Second, phase: corev1.PodRunning, ready: "False", again: 4 * time.Second,
		},
		{
			name: "ready in time", image: "web:1", annotations: map[string]string{fakekubelet.ReadyAfter: "5s"},
			age: 5 * time.Second, phase: corev1.PodRunning, ready: "True",
		},
		{name: "image not to be had", image: "broken:1", phase: corev1.PodPending, ready: "False", waiting: "ImagePullBackOff"},
		{name: "crashes", image: "crash:1", phase: corev1.PodRunning, ready: "False", waiting: "CrashLoopBackOff"},
		{
			name: "job runs", image: "job:1", restart: corev1.RestartPolicyNever,
			annotations: map[string]string{fakekubelet.RunFor: "5s"}, age: 2 * time.Second,
			phase: corev1.PodRunning, ready: "True", again: 3 * time.Second,
		},
		{
			name: "job ends", image: "job:1", restart: corev1.RestartPolicyNever, age: time.Second,
			phase: corev1.PodSucceeded, ready: "False",
		},
		{
			name: "job fails", image: "job:1", restart: corev1.RestartPolicyOnFailure, age: time.Second,
			annotations: map[string]string{fakekubelet.Fail: "true"}, phase: corev1.PodFailed, ready: "False",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			began := metav1.NewTime(start)
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "u", Annotations: tt.annotations},
				Spec: corev1.PodSpec{
					RestartPolicy: tt.restart, Containers: []corev1.Container{{Name: "main", Image: tt.image}},
				},
				Status: corev1.PodStatus{
					StartTime:  &began,
					Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: "True"}},
				},
			}
			got, again := fakekubelet.Step(pod, start.Add(tt.age))
			if got == nil {
				t.Fatal("nothing to say about a new pod")
			}
			if got.Phase != tt.phase || again != tt.again {
				t.Errorf("phase %s again in %s, want %s in %s", got.Phase, again, tt.phase, tt.again)
			}
			conditions := map[corev1.PodConditionType]corev1.ConditionStatus{}
			for _, c := range got.Conditions {
				conditions[c.Type] = c.Status
			}
			if conditions[corev1.PodReady] != tt.ready || conditions[corev1.PodScheduled] != "True" {
				t.Errorf("conditions %v, want Ready=%s and the scheduler's own kept", conditions, tt.ready)
			}
			if w := got.ContainerStatuses[0].State.Waiting; (w == nil) != (tt.waiting == "") || w != nil && w.Reason != tt.waiting {
				t.Errorf("waiting %v, want %q", w, tt.waiting)
			}
			pod.Status = *got
			if more, _ := fakekubelet.Step(pod, start.Add(tt.age)); more != nil {
				t.Error("the same moment has something new to say")
			}
		})
	}
}
