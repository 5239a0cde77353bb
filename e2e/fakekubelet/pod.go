package fakekubelet

import (
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The annotations a pod may carry; see the package comment.
const (
	ReadyAfter = "fake/ready-after"
	RunFor     = "fake/run-for"
	Fail       = "fake/fail"
)

// outcome is what a pod is doing at one moment.
type outcome struct {
	phase    corev1.PodPhase
	ready    bool
	state    corev1.ContainerState
	restarts int32
}

// Step returns the status a pod has at now, or nil when what it has is right,
// and how long until it should be looked at again (0: never by itself).
func Step(pod *corev1.Pod, now time.Time) (*corev1.PodStatus, time.Duration) {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil, 0
	}
	start := metav1.NewTime(now)
	if pod.Status.StartTime != nil {
		start = *pod.Status.StartTime
	}
	out, again := decide(pod, start, now)
	if len(pod.Status.ContainerStatuses) > 0 && pod.Status.Phase == out.phase && podReady(pod.Status) == out.ready {
		return nil, again
	}
	return status(pod, out, start, metav1.NewTime(now)), again
}

func decide(pod *corev1.Pod, start metav1.Time, now time.Time) (outcome, time.Duration) {
	left := func(annotation string, fallback time.Duration) time.Duration {
		d, err := time.ParseDuration(pod.Annotations[annotation])
		if err != nil {
			d = fallback
		}
		return max(d-now.Sub(start.Time), 0)
	}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: start}}
	switch {
	case anyImage(pod, "broken"):
		return outcome{phase: corev1.PodPending, state: waiting("ImagePullBackOff", "Back-off pulling image")}, 0
	case anyImage(pod, "crash"):
		return outcome{
			phase: corev1.PodRunning, restarts: 3,
			state: waiting("CrashLoopBackOff", "back-off 5m0s restarting failed container"),
		}, 0
	case pod.Spec.RestartPolicy == corev1.RestartPolicyAlways || pod.Spec.RestartPolicy == "":
		again := left(ReadyAfter, 0)
		return outcome{phase: corev1.PodRunning, ready: again == 0, state: running}, again
	}
	if again := left(RunFor, 200*time.Millisecond); again > 0 {
		return outcome{phase: corev1.PodRunning, ready: true, state: running}, again
	}
	ended := &corev1.ContainerStateTerminated{Reason: "Completed", StartedAt: start, FinishedAt: metav1.NewTime(now)}
	if pod.Annotations[Fail] == "true" {
		ended.Reason, ended.ExitCode = "Error", 1
		return outcome{phase: corev1.PodFailed, state: corev1.ContainerState{Terminated: ended}}, 0
	}
	return outcome{phase: corev1.PodSucceeded, state: corev1.ContainerState{Terminated: ended}}, 0
}

func anyImage(pod *corev1.Pod, part string) bool {
	for _, c := range pod.Spec.Containers {
		if strings.Contains(c.Image, part) {
			return true
		}
	}
	return false
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

func status(pod *corev1.Pod, out outcome, start, now metav1.Time) *corev1.PodStatus {
	s := pod.Status.DeepCopy()
	s.Phase, s.StartTime, s.ObservedGeneration = out.phase, &start, pod.Generation
	s.HostIP, s.HostIPs = "127.0.0.1", []corev1.HostIP{{IP: "127.0.0.1"}}
	s.PodIP = address(pod.UID)
	s.PodIPs = []corev1.PodIP{{IP: s.PodIP}}
	s.Conditions = conditions(pod, out, now)

	s.ContainerStatuses = containers(pod, pod.Spec.Containers, out.state, out.ready, out.restarts)
	done := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		Reason: "Completed", StartedAt: start, FinishedAt: now,
	}}
	s.InitContainerStatuses = containers(pod, pod.Spec.InitContainers, done, true, 0)
	return s
}

// conditions keeps the scheduler's own condition and sets the kubelet's.
func conditions(pod *corev1.Pod, out outcome, now metav1.Time) []corev1.PodCondition {
	var all []corev1.PodCondition
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled {
			all = append(all, c)
		}
	}
	ready, reason := corev1.ConditionFalse, ""
	if out.ready {
		ready = corev1.ConditionTrue
	}
	if out.phase == corev1.PodSucceeded {
		reason = "PodCompleted"
	}
	for _, c := range []corev1.PodCondition{
		{Type: corev1.PodInitialized, Status: corev1.ConditionTrue},
		{Type: corev1.ContainersReady, Status: ready},
		{Type: corev1.PodReady, Status: ready},
	} {
		c.Reason, c.LastTransitionTime, c.ObservedGeneration = reason, now, pod.Generation
		all = append(all, c)
	}
	return all
}

func containers(pod *corev1.Pod, specs []corev1.Container, state corev1.ContainerState, ready bool, restarts int32) []corev1.ContainerStatus {
	var all []corev1.ContainerStatus
	for _, c := range specs {
		all = append(all, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, ImageID: "fake://" + c.Image,
			ContainerID: "fake://" + string(pod.UID) + "/" + c.Name,
			Ready:       ready, Started: &ready, State: state, RestartCount: restarts,
		})
	}
	return all
}

// address makes up an IP that stays with the pod.
func address(uid types.UID) string {
	h := fnv.New32a()
	h.Write([]byte(uid))
	sum := h.Sum32()
	return fmt.Sprintf("10.%d.%d.%d", 64+(sum>>16)&63, (sum>>8)&255, 1+sum&127)
}
