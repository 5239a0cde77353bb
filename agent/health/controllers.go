package health

import (
	"fmt"
	"strings"
	"time"
)

// controllers are kinds that widely used controllers bring.
var controllers = []known{
	{gk("cert-manager.io", "Certificate"), certificate},
	{gk("cert-manager.io", "CertificateRequest"), certificateRequest},
	{gk("cert-manager.io", "Issuer", "ClusterIssuer"), trueOr("Ready")},
	{gk("acme.cert-manager.io", "Order", "Challenge"), acme},
	{gk("external-secrets.io", "ExternalSecret"), externalSecret},
	{gk("external-secrets.io", "PushSecret"), syncedOrReady},
	{gk("external-secrets.io", "SecretStore", "ClusterSecretStore", "ClusterExternalSecret", "ClusterPushSecret"), trueOr("Ready")},
	{gk("bitnami.com", "SealedSecret"), trueOr("Synced")},
	{gk("argoproj.io", "Rollout"), rollout},
	{gk("argoproj.io", "Application"), application},
	{gk("argoproj.io", "Workflow"), workflow},
	{gk("flagger.app", "Canary"), canary},
	{gk("keda.sh", "ScaledObject", "ScaledJob"), scaled},
	{gk("pkg.crossplane.io", "Provider", "Configuration", "Function"), crossplanePackage},
	{gk("cluster.x-k8s.io", "Cluster", "Machine", "MachineDeployment", "MachineSet", "MachinePool"), clusterAPI},
	{gk("controlplane.cluster.x-k8s.io", "KubeadmControlPlane"), clusterAPI},
	{gk("gateway.networking.k8s.io", "GatewayClass"), trueOr("Accepted")},
	{gk("gateway.networking.k8s.io", "Gateway"), gateway},
	{gk("gateway.networking.k8s.io", "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute"), route},
}

func certificate(o object) (State, bool) {
	ready, issuing := o.condition("Ready"), o.condition("Issuing")
	switch {
	case ready.isTrue():
		return healthy()
	case issuing.isTrue():
		return yes(progressing(issuing.why()))
	case issuing.isFalse() && issuing.reason != "": // the last try failed, and the next is hours away
		return yes(degraded(issuing.why()))
	case ready.isFalse():
		return yes(progressing(ready.why()))
	}
	return waits("cert-manager")
}

func certificateRequest(o object) (State, bool) {
	ready := o.condition("Ready")
	switch {
	case ready.isTrue():
		return healthy()
	case ready.isFalse() && (ready.reason == "Failed" || ready.reason == "Denied"):
		return yes(degraded(ready.why()))
	case ready.isFalse():
		return yes(progressing(ready.why()))
	}
	return waits("cert-manager")
}

// externalSecret is Ready also where there is no Secret, because its provider has
// none (deletionPolicy: Delete) or because it only adds to one that somebody else
// makes (creationPolicy: Merge). What comes after it needs the Secret.
func externalSecret(o object) (State, bool) {
	ready := o.condition("Ready")
	switch {
	case ready.isTrue() && (ready.reason == "SecretDeleted" || ready.reason == "SecretMissing"):
		return yes(progressing(ready.why()))
	case !refreshes(o):
		return trueOr("Ready")(o)
	}
	return syncedOrReady(o)
}

// refreshes tells an ExternalSecret that is synced again when it changes. One that
// is synced once has no generation to wait for.
func refreshes(o object) bool {
	switch o.text("spec", "refreshPolicy") {
	case "CreatedOnce":
		return false
	case "OnChange":
		return true
	}
	interval, err := time.ParseDuration(o.text("spec", "refreshInterval"))
	return err != nil || interval > 0 // absent: the CRD's default of an hour
}

// syncedOrReady is a kind of External Secrets that has no observedGeneration. While
// Ready is still from before a change, the generation that was synced tells:
// syncedResourceVersion is "2-5c8f07...".
func syncedOrReady(o object) (State, bool) {
	seen, _, known := strings.Cut(o.text("status", "syncedResourceVersion"), "-")
	if known && o.condition("Ready").isTrue() && o.GetGeneration() != 0 && seen != fmt.Sprint(o.GetGeneration()) {
		return yes(progressing(fmt.Sprintf("its controller has synced generation %.20s of %d", seen, o.GetGeneration())))
	}
	return trueOr("Ready")(o)
}

func acme(o object) (State, bool) {
	reason := o.text("status", "reason")
	switch state := o.text("status", "state"); state {
	case "valid":
		return healthy()
	case "errored", "invalid", "expired":
		return yes(degraded(condition{reason: state, message: reason}.why()))
	default:
		return yes(progressing(condition{reason: state, message: reason}.why()))
	}
}

// phases are a kind that says how it is in one word.
func byPhase(phase, message string, words map[string]func(string) State) (State, bool) {
	why := condition{reason: phase, message: message}.why()
	if as := words[phase]; as != nil {
		return yes(as(why))
	}
	if phase == "" {
		return waits("its controller")
	}
	return yes(progressing(why))
}

func well(string) State { s, _ := healthy(); return s }

func rollout(o object) (State, bool) {
	if o.flag("spec", "paused") {
		return yes(suspended("the rollout is paused"))
	}
	return byPhase(o.text("status", "phase"), o.text("status", "message"), map[string]func(string) State{
		"Healthy": well, "Paused": suspended, "Degraded": degraded,
	})
}

func application(o object) (State, bool) {
	return byPhase(o.text("status", "health", "status"), o.text("status", "health", "message"), map[string]func(string) State{
		"Healthy": well, "Suspended": suspended, "Degraded": degraded, "Missing": degraded,
	})
}

func workflow(o object) (State, bool) {
	if o.flag("spec", "suspend") {
		return yes(suspended("the workflow is suspended"))
	}
	return byPhase(o.text("status", "phase"), o.text("status", "message"), map[string]func(string) State{
		"Succeeded": well, "Failed": degraded, "Error": degraded,
	})
}

func canary(o object) (State, bool) {
	return byPhase(o.text("status", "phase"), o.condition("Promoted").message, map[string]func(string) State{
		"Initialized": well, "Succeeded": well, "Failed": degraded, "Waiting": suspended, "WaitingPromotion": suspended,
	})
}

func scaled(o object) (State, bool) {
	if paused := o.condition("Paused"); paused.isTrue() {
		return yes(suspended(paused.why()))
	}
	return trueOr("Ready")(o)
}

// crossplane is about kinds of any name: those that say both whether they were
// synced and whether they are ready.
func crossplane(o object) (State, bool) {
	synced, ready := o.condition("Synced"), o.condition("Ready")
	if synced.status == "" || ready.status == "" {
		return State{}, false
	}
	switch {
	case synced.isFalse() && synced.reason == "ReconcilePaused":
		return yes(suspended(synced.why()))
	case synced.isFalse():
		return yes(degraded(synced.why()))
	case ready.isTrue():
		return healthy()
	}
	return yes(progressing(ready.why()))
}

func crossplanePackage(o object) (State, bool) {
	installed, well := o.condition("Installed"), o.condition("Healthy")
	switch {
	case installed.isFalse() && installed.reason != "InactivePackageRevision":
		return yes(degraded(installed.why()))
	case well.isFalse():
		return yes(degraded(well.why()))
	case installed.isTrue() && well.isTrue():
		return healthy()
	}
	return waits("the package manager")
}

func clusterAPI(o object) (State, bool) {
	if o.flag("spec", "paused") {
		return yes(suspended("it is paused"))
	}
	if why := o.text("status", "failureMessage"); why != "" {
		return yes(degraded(why))
	}
	ready := o.condition("Available") // v1beta2
	if ready.status == "" {
		ready = o.condition("Ready")
	}
	switch phase := o.text("status", "phase"); {
	case phase == "Failed":
		return yes(degraded(condition{reason: phase, message: ready.message}.why()))
	case phase == "Provisioning" || phase == "ScalingUp" || phase == "ScalingDown" || phase == "Pending":
		return yes(progressing(condition{reason: phase, message: ready.message}.why()))
	case ready.isTrue():
		return healthy()
	case ready.status != "":
		return yes(progressing(ready.why()))
	case phase == "Provisioned" || phase == "Running":
		return healthy()
	}
	return waits("its controller")
}

func gateway(o object) (State, bool) {
	accepted, programmed := o.condition("Accepted"), o.condition("Programmed")
	switch {
	case accepted.isFalse():
		return yes(degraded(accepted.why()))
	case programmed.isTrue():
		return healthy()
	case programmed.isFalse():
		return yes(progressing(programmed.why()))
	}
	return waits("its controller")
}

// route is as healthy as the worst of the gateways it hangs on.
func route(o object) (State, bool) {
	parents := o.list("status", "parents")
	for _, e := range parents {
		parent, _ := e.(map[string]any)
		ref, _ := parent["parentRef"].(map[string]any)
		conditions, _ := parent["conditions"].([]any)
		for _, kind := range []string{"Accepted", "ResolvedRefs"} {
			if c := find(conditions, kind); c.isFalse() {
				return yes(degraded(fmt.Sprintf("gateway %v: %s", ref["name"], c.why())))
			}
		}
	}
	if len(parents) == 0 {
		return waits("a gateway to accept it")
	}
	return healthy()
}

// suspendedByFlux is about the objects of Flux, all of which can be suspended.
func suspendedByFlux(o object) (State, bool) {
	if strings.HasSuffix(o.GroupVersionKind().Group, ".toolkit.fluxcd.io") && o.flag("spec", "suspend") {
		return yes(suspended("it is suspended: spec.suspend"))
	}
	return State{}, false
}
