package health

import (
	"fmt"
	"slices"
)

// builtIn are Kubernetes' own kinds of which kstatus does not know enough.
var builtIn = []known{
	{gk("apps", "Deployment"), deployment},
	{gk("batch", "Job"), job},
	{gk("", "Pod"), pod},
	{gk("batch", "CronJob"), cronJob},
	{gk("autoscaling", "HorizontalPodAutoscaler"), autoscaler},
	{gk("", "PersistentVolumeClaim"), claim},
	{gk("", "Service"), service},
	{gk("networking.k8s.io", "Ingress"), ingress},
	{gk("apiregistration.k8s.io", "APIService"), apiService},
	{gk("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"), webhooks},
}

func deployment(o object) (State, bool) {
	if o.flag("spec", "paused") {
		return yes(suspended("the rollout is paused"))
	}
	return kstatusKnows()
}

func job(o object) (State, bool) {
	switch failed := o.condition("Failed"); {
	case failed.isTrue():
		return yes(degraded(failed.why()))
	case o.condition("Complete").isTrue(), o.condition("SuccessCriteriaMet").isTrue():
		return healthy()
	case o.flag("spec", "suspend"):
		return yes(suspended("the job is suspended"))
	}
	return yes(progressing("the job is not finished"))
}

// pod: one that is to run to an end is not there yet while it runs. What keeps a
// container from running is told in its own words.
func pod(o object) (State, bool) {
	policy := o.text("spec", "restartPolicy")
	ends, why := policy == "Never" || policy == "OnFailure", PodTrouble(o.Unstructured)
	switch phase := o.text("status", "phase"); {
	case phase == "Failed" && why != "":
		return yes(degraded(why))
	case phase == "Pending" && why != "" && !o.condition("PodScheduled").isFalse(), phase == "Running" && ends && why != "":
		return yes(progressing(why))
	case phase == "Running" && ends:
		return yes(progressing("the pod has not ended"))
	}
	return kstatusKnows()
}

func cronJob(o object) (State, bool) {
	if o.flag("spec", "suspend") {
		return yes(suspended("no jobs are started: spec.suspend"))
	}
	return healthy()
}

// autoscaler: that it can't scale is a fault; that it is at one of its limits is not.
func autoscaler(o object) (State, bool) {
	able, active := o.condition("AbleToScale"), o.condition("ScalingActive")
	switch {
	case able.isFalse():
		return yes(degraded(able.why()))
	case active.isFalse() && active.reason == "ScalingDisabled":
		return yes(suspended(active.why()))
	case active.isFalse():
		return yes(degraded(active.why()))
	case able.isTrue():
		return healthy()
	}
	return waits("its controller")
}

func claim(o object) (State, bool) {
	switch o.text("status", "phase") {
	case "Bound":
		return healthy()
	case "Lost":
		return yes(degraded("its volume is lost"))
	}
	return waits("a volume, or for its first pod")
}

func service(o object) (State, bool) {
	if o.text("spec", "type") == "LoadBalancer" && len(o.list("status", "loadBalancer", "ingress")) == 0 {
		return waits("an address of the load balancer")
	}
	return kstatusKnows()
}

func ingress(o object) (State, bool) {
	if len(o.list("status", "loadBalancer", "ingress")) == 0 {
		return waits("an address of the ingress controller")
	}
	return healthy()
}

func apiService(o object) (State, bool) {
	switch c := o.condition("Available"); {
	case c.isTrue():
		return healthy()
	case c.isFalse():
		return yes(progressing(c.why()))
	}
	return waits("its API server")
}

// webhooks that lead to a service need somebody's certificate, and most often a
// controller puts it in: until then no request passes them.
func webhooks(o object) (State, bool) {
	for i, e := range o.list("webhooks") {
		hook, _ := e.(map[string]any)
		client, _ := hook["clientConfig"].(map[string]any)
		if client["service"] == nil {
			continue
		}
		if bundle, _ := client["caBundle"].(string); slices.Contains([]string{"", "Cg==", "Cgo="}, bundle) { // empty lines, which some charts put there
			return waits(fmt.Sprintf("a CA bundle of webhooks[%d]", i))
		}
	}
	return healthy()
}
