package health_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/capstan-gitops/capstan/agent/health"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestHealthOfWhatPeopleRun(t *testing.T) {
	for _, c := range []struct {
		name, kind, body string
		want             fleet.Health
		message          string
	}{
		// What Kubernetes itself brings.
		{"a Deployment that is rolled out", "apps/v1 Deployment", "metadata: {generation: 1}\nspec: {replicas: 1}\nstatus: {observedGeneration: 1, replicas: 1, updatedReplicas: 1, readyReplicas: 1, availableReplicas: 1, conditions: [{type: Available, status: 'True'}, {type: Progressing, status: 'True', reason: NewReplicaSetAvailable}]}", fleet.Healthy, ""},
		{"a Deployment nobody has seen yet", "apps/v1 Deployment", "metadata: {generation: 2}\nstatus: {observedGeneration: 1}", fleet.Progressing, "its controller has seen generation 1 of 2"},
		{"a Deployment that is paused", "apps/v1 Deployment", "spec: {paused: true}", fleet.Suspended, "the rollout is paused"},
		{"a Deployment past its deadline", "apps/v1 Deployment", "metadata: {generation: 1}\nspec: {replicas: 1}\nstatus: {observedGeneration: 1, conditions: [{type: Progressing, status: 'False', reason: ProgressDeadlineExceeded}]}", fleet.Degraded, "Progress deadline exceeded"},
		{"anything on its way out", "v1 ConfigMap", "metadata: {deletionTimestamp: '2026-01-01T00:00:00Z'}", fleet.Progressing, "is being deleted"},
		{"a ConfigMap", "v1 ConfigMap", "data: {a: b}", fleet.Healthy, ""},
		{"a Job at work", "batch/v1 Job", "status: {active: 1}", fleet.Progressing, "the job is not finished"},
		{"a Job that is done", "batch/v1 Job", "status: {conditions: [{type: Complete, status: 'True'}]}", fleet.Healthy, ""},
		{"a Job that failed", "batch/v1 Job", "status: {conditions: [{type: Failed, status: 'True', reason: BackoffLimitExceeded, message: 'Job has reached the specified backoff limit'}]}", fleet.Degraded, "BackoffLimitExceeded: Job has reached the specified backoff limit"},
		{"a Job that is suspended", "batch/v1 Job", "spec: {suspend: true}", fleet.Suspended, "the job is suspended"},
		{"a Pod that serves", "v1 Pod", "status: {phase: Running, conditions: [{type: Ready, status: 'True'}]}", fleet.Healthy, ""},
		{"a Pod that is to end, and has not", "v1 Pod", "spec: {restartPolicy: Never}\nstatus: {phase: Running, conditions: [{type: Ready, status: 'True'}]}", fleet.Progressing, "the pod has not ended"},
		{"a Pod that fails again and again", "v1 Pod", "metadata: {name: p}\nspec: {restartPolicy: OnFailure}\nstatus: {phase: Running, containerStatuses: [{state: {waiting: {reason: CrashLoopBackOff, message: back-off}}}]}", fleet.Progressing, "p: CrashLoopBackOff: back-off"},
		{"a Pod whose image is not there", "v1 Pod", "metadata: {name: p}\nstatus: {phase: Pending, containerStatuses: [{state: {waiting: {reason: ImagePullBackOff, message: back-off}}}]}", fleet.Progressing, "p: ImagePullBackOff: back-off"},
		{"a Pod that failed", "v1 Pod", "metadata: {name: p}\nspec: {restartPolicy: Never}\nstatus: {phase: Failed, containerStatuses: [{state: {terminated: {reason: Error, exitCode: 3}}}]}", fleet.Degraded, "p: Error: the container ended with code 3"},
		{"a Pod that has ended", "v1 Pod", "spec: {restartPolicy: Never}\nstatus: {phase: Succeeded}", fleet.Healthy, ""},
		{"a CronJob", "batch/v1 CronJob", "spec: {schedule: '* * * * *'}", fleet.Healthy, ""},
		{"a CronJob that is suspended", "batch/v1 CronJob", "spec: {suspend: true}", fleet.Suspended, "no jobs are started: spec.suspend"},
		{"an autoscaler without metrics", "autoscaling/v2 HorizontalPodAutoscaler", "status: {conditions: [{type: AbleToScale, status: 'True'}, {type: ScalingActive, status: 'False', reason: FailedGetResourceMetric, message: no metrics}]}", fleet.Degraded, "FailedGetResourceMetric: no metrics"},
		{"an autoscaler at its limit", "autoscaling/v2 HorizontalPodAutoscaler", "status: {conditions: [{type: AbleToScale, status: 'True'}, {type: ScalingActive, status: 'True'}, {type: ScalingLimited, status: 'True'}]}", fleet.Healthy, ""},
		{"an autoscaler of nothing", "autoscaling/v2 HorizontalPodAutoscaler", "status: {conditions: [{type: AbleToScale, status: 'True'}, {type: ScalingActive, status: 'False', reason: ScalingDisabled}]}", fleet.Suspended, "ScalingDisabled"},
		{"a new autoscaler", "autoscaling/v2 HorizontalPodAutoscaler", "spec: {}", fleet.Progressing, "waits for its controller"},
		{"a claim that waits", "v1 PersistentVolumeClaim", "status: {phase: Pending}", fleet.Progressing, "waits for a volume, or for its first pod"},
		{"a claim that has its volume", "v1 PersistentVolumeClaim", "status: {phase: Bound}", fleet.Healthy, ""},
		{"a claim without its volume", "v1 PersistentVolumeClaim", "status: {phase: Lost}", fleet.Degraded, "its volume is lost"},
		{"a load balancer that waits", "v1 Service", "spec: {type: LoadBalancer, clusterIP: 10.0.0.1}", fleet.Progressing, "waits for an address of the load balancer"},
		{"a load balancer", "v1 Service", "spec: {type: LoadBalancer, clusterIP: 10.0.0.1}\nstatus: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}", fleet.Healthy, ""},
		{"a Service", "v1 Service", "spec: {type: ClusterIP, clusterIP: 10.0.0.1}", fleet.Healthy, ""},
		{"an Ingress that waits", "networking.k8s.io/v1 Ingress", "spec: {}", fleet.Progressing, "waits for an address of the ingress controller"},
		{"an Ingress", "networking.k8s.io/v1 Ingress", "status: {loadBalancer: {ingress: [{hostname: lb.example}]}}", fleet.Healthy, ""},
		{"an APIService without a server", "apiregistration.k8s.io/v1 APIService", "status: {conditions: [{type: Available, status: 'False', reason: MissingEndpoints, message: no endpoints}]}", fleet.Progressing, "MissingEndpoints: no endpoints"},
		{"a webhook without a CA", "admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration", "webhooks: [{name: a, clientConfig: {url: 'https://a.example'}}, {name: b, clientConfig: {service: {name: b}}}]", fleet.Progressing, "waits for a CA bundle of webhooks[1]"},
		{"a webhook with one", "admissionregistration.k8s.io/v1 MutatingWebhookConfiguration", "webhooks: [{name: b, clientConfig: {service: {name: b}, caBundle: QUJD}}]", fleet.Healthy, ""},

		// What controllers bring.
		{"a certificate", "cert-manager.io/v1 Certificate", "status: {conditions: [{type: Ready, status: 'True'}]}", fleet.Healthy, ""},
		{"a certificate on its way", "cert-manager.io/v1 Certificate", "status: {conditions: [{type: Ready, status: 'False', reason: DoesNotExist}, {type: Issuing, status: 'True', reason: DoesNotExist, message: issuing}]}", fleet.Progressing, "DoesNotExist: issuing"},
		{"a certificate that nobody issues", "cert-manager.io/v1 Certificate", "status: {conditions: [{type: Ready, status: 'False', reason: DoesNotExist}, {type: Issuing, status: 'False', reason: Failed, message: refused}]}", fleet.Degraded, "Failed: refused"},
		{"an issuer without its account", "cert-manager.io/v1 ClusterIssuer", "status: {conditions: [{type: Ready, status: 'False', reason: ErrRegisterACMEAccount, message: no route}]}", fleet.Degraded, "ErrRegisterACMEAccount: no route"},
		{"a challenge that failed", "acme.cert-manager.io/v1 Challenge", "status: {state: invalid, reason: 'no answer'}", fleet.Degraded, "invalid: no answer"},
		{"an ExternalSecret", "external-secrets.io/v1 ExternalSecret", "status: {conditions: [{type: Ready, status: 'True'}]}", fleet.Healthy, ""},
		{"an ExternalSecret without its key", "external-secrets.io/v1 ExternalSecret", "status: {conditions: [{type: Ready, status: 'False', reason: SecretSyncedError, message: could not get secret data from provider}]}", fleet.Degraded, "SecretSyncedError: could not get secret data from provider"},
		{"an ExternalSecret that was changed since", "external-secrets.io/v1 ExternalSecret", "metadata: {generation: 2}\nspec: {refreshInterval: 1h0m0s}\nstatus: {syncedResourceVersion: 1-0123abcd, conditions: [{type: Ready, status: 'True', reason: SecretSynced}]}", fleet.Progressing, "its controller has synced generation 1 of 2"},
		{"an ExternalSecret that was synced since", "external-secrets.io/v1 ExternalSecret", "metadata: {generation: 2}\nstatus: {syncedResourceVersion: 2-0123abcd, conditions: [{type: Ready, status: 'True', reason: SecretSynced}]}", fleet.Healthy, ""},
		{"an ExternalSecret that is synced once", "external-secrets.io/v1 ExternalSecret", "metadata: {generation: 2}\nspec: {refreshPolicy: CreatedOnce}\nstatus: {syncedResourceVersion: 1-0123abcd, conditions: [{type: Ready, status: 'True', reason: SecretSynced}]}", fleet.Healthy, ""},
		{"an ExternalSecret that is never refreshed", "external-secrets.io/v1 ExternalSecret", "metadata: {generation: 2}\nspec: {refreshInterval: 0s}\nstatus: {syncedResourceVersion: 1-0123abcd, conditions: [{type: Ready, status: 'True', reason: SecretSynced}]}", fleet.Healthy, ""},
		{"an ExternalSecret whose provider has nothing", "external-secrets.io/v1 ExternalSecret", "status: {conditions: [{type: Ready, status: 'True', reason: SecretDeleted, message: 'secret deleted due to DeletionPolicy=Delete'}]}", fleet.Progressing, "SecretDeleted: secret deleted due to DeletionPolicy=Delete"},
		{"a PushSecret that was changed since", "external-secrets.io/v1alpha1 PushSecret", "metadata: {generation: 2}\nspec: {refreshInterval: 0s}\nstatus: {syncedResourceVersion: 1-0123abcd, conditions: [{type: Ready, status: 'True', reason: Synced}]}", fleet.Progressing, "its controller has synced generation 1 of 2"},
		{"a store without its credentials", "external-secrets.io/v1 SecretStore", "status: {conditions: [{type: Ready, status: 'False', reason: InvalidProviderConfig, message: unable to create client}]}", fleet.Degraded, "InvalidProviderConfig: unable to create client"},
		{"an ExternalSecret nobody looks after", "external-secrets.io/v1 ExternalSecret", "spec: {}", fleet.Progressing, "waits for its controller"},
		{"a SealedSecret that was changed since", "bitnami.com/v1alpha1 SealedSecret", "metadata: {generation: 2}\nstatus: {observedGeneration: 1, conditions: [{type: Synced, status: 'True'}]}", fleet.Progressing, "its controller has seen generation 1 of 2"},
		{"a SealedSecret for another cluster", "bitnami.com/v1alpha1 SealedSecret", "status: {observedGeneration: 1, conditions: [{type: Synced, status: 'False', message: 'no key could decrypt secret (password)'}]}", fleet.Degraded, "no key could decrypt secret (password)"},
		{"a rollout that waits for a person", "argoproj.io/v1alpha1 Rollout", "metadata: {generation: 3}\nstatus: {observedGeneration: '3', phase: Paused, message: CanaryPauseStep}", fleet.Suspended, "Paused: CanaryPauseStep"},
		{"a workflow that runs", "argoproj.io/v1alpha1 Workflow", "status: {phase: Running}", fleet.Progressing, "Running"},
		{"a workflow that is done", "argoproj.io/v1alpha1 Workflow", "status: {phase: Succeeded}", fleet.Healthy, ""},
		{"a workflow that failed", "argoproj.io/v1alpha1 Workflow", "status: {phase: Failed, message: 'child failed'}", fleet.Degraded, "Failed: child failed"},
		{"a workflow nobody looks after", "argoproj.io/v1alpha1 Workflow", "spec: {}", fleet.Progressing, "waits for its controller"},
		{"a rollout that is done", "argoproj.io/v1alpha1 Rollout", "metadata: {generation: 3}\nstatus: {observedGeneration: '3', phase: Healthy}", fleet.Healthy, ""},
		{"a rollout that failed", "argoproj.io/v1alpha1 Rollout", "status: {phase: Degraded, message: 'ProgressDeadlineExceeded: too slow'}", fleet.Degraded, "Degraded: ProgressDeadlineExceeded: too slow"},
		{"a canary that was rolled back", "flagger.app/v1beta1 Canary", "status: {phase: Failed, conditions: [{type: Promoted, status: 'False', message: 'Canary analysis failed'}]}", fleet.Degraded, "Failed: Canary analysis failed"},
		{"a canary at work", "flagger.app/v1beta1 Canary", "status: {phase: Progressing}", fleet.Progressing, "Progressing"},
		{"a managed resource of a cloud", "s3.aws.upbound.io/v1beta1 Bucket", "status: {conditions: [{type: Synced, status: 'True'}, {type: Ready, status: 'False', reason: Creating}]}", fleet.Progressing, "Creating"},
		{"a managed resource the cloud refuses", "s3.aws.upbound.io/v1beta1 Bucket", "status: {conditions: [{type: Synced, status: 'False', reason: ReconcileError, message: forbidden}, {type: Ready, status: 'False'}]}", fleet.Degraded, "ReconcileError: forbidden"},
		{"a provider that does not install", "pkg.crossplane.io/v1 Provider", "status: {conditions: [{type: Installed, status: 'False', reason: UnpackingPackage, message: no such image}]}", fleet.Degraded, "UnpackingPackage: no such image"},
		{"a cluster that is made", "cluster.x-k8s.io/v1beta1 Cluster", "status: {phase: Provisioning, conditions: [{type: Ready, status: 'False', message: 'waits for machines'}]}", fleet.Progressing, "Provisioning: waits for machines"},
		{"a cluster", "cluster.x-k8s.io/v1beta1 Cluster", "status: {phase: Provisioned, conditions: [{type: Ready, status: 'True'}]}", fleet.Healthy, ""},
		{"a machine that failed", "cluster.x-k8s.io/v1beta1 Machine", "status: {phase: Failed, failureMessage: no quota}", fleet.Degraded, "no quota"},
		{"a gateway nobody programs", "gateway.networking.k8s.io/v1 Gateway", "status: {conditions: [{type: Accepted, status: 'True'}, {type: Programmed, status: 'False', reason: AddressNotAssigned}]}", fleet.Progressing, "AddressNotAssigned"},
		{"a gateway that is refused", "gateway.networking.k8s.io/v1 Gateway", "status: {conditions: [{type: Accepted, status: 'False', reason: ListenersNotValid, message: port taken}]}", fleet.Degraded, "ListenersNotValid: port taken"},
		{"a route to nowhere", "gateway.networking.k8s.io/v1 HTTPRoute", "status: {parents: [{parentRef: {name: a}, conditions: [{type: Accepted, status: 'True'}]}, {parentRef: {name: b}, conditions: [{type: ResolvedRefs, status: 'False', reason: BackendNotFound}]}]}", fleet.Degraded, "gateway b: BackendNotFound"},
		{"a route without a gateway", "gateway.networking.k8s.io/v1 HTTPRoute", "spec: {}", fleet.Progressing, "waits for a gateway to accept it"},
		{"a Kustomization of Flux that is suspended", "kustomize.toolkit.fluxcd.io/v1 Kustomization", "spec: {suspend: true}\nstatus: {conditions: [{type: Ready, status: 'False'}]}", fleet.Suspended, "it is suspended: spec.suspend"},
		{"a kind nobody here knows, by its Ready condition", "example.com/v1 Thing", "status: {conditions: [{type: Ready, status: 'False', reason: Boot, message: booting}]}", fleet.Progressing, "booting"},
		{"a kind nobody here knows, without a status", "example.com/v1 Thing", "spec: {}", fleet.Healthy, ""},

		// What a controller got wrong.
		{"conditions that are none", "example.com/v1 Thing", "status: {conditions: yes}", fleet.HealthUnknown, "its status can't be read"},
		{"words on many lines", "bitnami.com/v1alpha1 SealedSecret", "status: {conditions: [{type: Synced, status: 'False', message: \"one\\n  two\\tthree\"}]}", fleet.Degraded, "one two three"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := health.Of(parse(t, c.kind, c.body))
			if got.Health != c.want || got.Message != c.message {
				t.Errorf("got %s %q, want %s %q", got.Health, got.Message, c.want, c.message)
			}
		})
	}
}

func parse(t *testing.T, kind, body string) *unstructured.Unstructured {
	t.Helper()
	var version, name string
	for i := range kind {
		if kind[i] == ' ' {
			version, name = kind[:i], kind[i+1:]
		}
	}
	json, err := yaml.YAMLToJSON([]byte("apiVersion: " + version + "\nkind: " + name + "\n" + body))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(json); err != nil {
		t.Fatal(err)
	}
	return u
}

// A status is written by whoever may: nothing in it may end the agent.
func FuzzOf(f *testing.F) {
	f.Add("apps/v1", "Deployment", `{"status":{"conditions":[{"type":"Available"}]}}`)
	f.Add("gateway.networking.k8s.io/v1", "HTTPRoute", `{"status":{"parents":[{"parentRef":3,"conditions":{}}]}}`)
	f.Add("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", `{"webhooks":[1,{"clientConfig":[]}]}`)
	f.Add("argoproj.io/v1alpha1", "Rollout", `{"metadata":{"generation":1},"status":{"observedGeneration":{}}}`)
	f.Fuzz(func(t *testing.T, version, kind, body string) {
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON([]byte(body)); err != nil && u.Object == nil {
			return
		}
		u.SetAPIVersion(version)
		u.SetKind(kind)
		if got := health.Of(u); got.Health == "" {
			t.Errorf("%s %s %s: no word for it", version, kind, body)
		}
	})
}
