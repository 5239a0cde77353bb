package worker

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	chart "helm.sh/helm/v4/pkg/chart/v2"
	"sigs.k8s.io/yaml"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	hookAnnotation = "helm.sh/hook"
	notes          = "NOTES.txt"
)

// installOrder is the order in which Helm sends kinds. Others come after, by name.
var installOrder = rank(
	"PriorityClass", "Namespace", "NetworkPolicy", "ResourceQuota", "LimitRange", "PodSecurityPolicy", "PodDisruptionBudget",
	"ServiceAccount", "Secret", "SecretList", "ConfigMap", "StorageClass", "PersistentVolume", "PersistentVolumeClaim",
	"CustomResourceDefinition", "ClusterRole", "ClusterRoleList", "ClusterRoleBinding", "ClusterRoleBindingList", "Role", "RoleList",
	"RoleBinding", "RoleBindingList", "Service", "DaemonSet", "Pod", "ReplicationController", "ReplicaSet", "Deployment",
	"HorizontalPodAutoscaler", "StatefulSet", "Job", "CronJob", "IngressClass", "Ingress", "APIService",
	"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration",
)

func rank(kinds ...string) map[string]int {
	m := make(map[string]int, len(kinds))
	for i, k := range kinds {
		m[k] = i + 1
	}
	return m
}

func inInstallOrder(a, b unit.Object) int {
	ra, known := installOrder[a.Ref.Kind]
	rb, other := installOrder[b.Ref.Kind]
	switch {
	case known && other:
		return cmp.Compare(ra, rb)
	case known:
		return -1
	case other:
		return 1
	}
	return strings.Compare(a.Ref.Kind, b.Ref.Kind)
}

// chartObjects is what a chart gave, while it is read.
type chartObjects struct {
	manifests
	hooks unit.Hooks
}

// collect makes objects of what the templates gave: CRDs first, then in the
// order in which Helm would send them.
func (c *inflation) collect(ch *chart.Chart, rendered map[string]string) ([]unit.Object, error) {
	o := chartObjects{hooks: c.hooks, manifests: manifests{
		fs: c.fs, top: c.where, seen: map[fleet.ObjectRef]document{}, odd: "every document that a template gives is a Kubernetes object, or empty",
	}}
	if !c.skipCRDs {
		for _, crd := range ch.CRDObjects() {
			if err := o.file(c.fileOf(ch, crd.Filename), string(crd.File.Data), false); err != nil {
				return nil, err
			}
		}
	}
	definitions := len(o.objects)
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		if strings.HasSuffix(name, notes) || strings.HasPrefix(path.Base(name), "_") {
			continue
		}
		if err := o.file(c.fileOf(ch, name), rendered[name], true); err != nil {
			return nil, err
		}
	}
	if len(o.objects) == 0 {
		return nil, &failure{file: c.where, message: c.where + ": the chart gives no objects", hint: "look at the values; to remove what an app runs, take the App away"}
	}
	slices.SortStableFunc(o.objects[definitions:], inInstallOrder)
	return o.objects, nil
}

// documentMark is where Helm cuts documents: wherever a line begins with it.
var documentMark = regexp.MustCompile(`(?m)^---[ \t]*`)

// file takes what one template gave, or a file of crds/.
func (o *chartObjects) file(name, content string, hooks bool) error {
	if strings.TrimSpace(content) == "" {
		return nil
	}
	o.fs.files = append(o.fs.files, readFile{name, []byte(content)}) // so that messages show no Secret
	start, number := 0, 0
	take := func(end int) error {
		text := content[start:end]
		if strings.TrimSpace(text) == "" {
			return nil
		}
		number++
		skipped := len(text) - len(strings.TrimLeft(text, " \t\r\n"))
		p := document{file: name, line: lineAt([]byte(content), start+skipped), number: number}
		return o.document(p, text, lineAt([]byte(content), start)-1, hooks)
	}
	for _, mark := range documentMark.FindAllStringIndex(content, -1) {
		if err := take(mark[0]); err != nil {
			return err
		}
		start = mark[1]
	}
	return take(len(content))
}

// document takes one document. YAML means what it means to Helm and kubectl,
// not what it means to Kustomize: yes is true.
func (o *chartObjects) document(p document, text string, linesBefore int, hooks bool) error {
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		reason := o.yamlReason(&p, errors.New(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: ")), linesBefore)
		return p.fail("not valid YAML: "+reason, "helm template shows the template's output, given the same values; lines count in it")
	}
	raw = bytes.TrimSpace(raw)
	if string(raw) == "null" || string(raw) == "{}" {
		return nil
	}
	if raw[0] != '{' {
		return p.fail("not a Kubernetes object", o.odd)
	}
	if hooks && o.leavesOut(raw) {
		return nil
	}
	return o.add(p, raw)
}

// leavesOut tells a hook that is left out: a test, and all of them where that is
// asked for. The others go on: whoever applies them reads what they are.
func (o *chartObjects) leavesOut(raw []byte) bool {
	var head struct {
		Metadata struct {
			Annotations map[string]any `json:"annotations"`
		} `json:"metadata"`
	}
	if json.Unmarshal(raw, &head) != nil {
		return false // add says what is wrong
	}
	events, ok := head.Metadata.Annotations[hookAnnotation].(string)
	if !ok {
		return false
	}
	for event := range strings.SplitSeq(events, ",") {
		switch strings.ToLower(strings.TrimSpace(event)) {
		case "test", "test-success":
		default:
			return o.hooks == unit.HooksIgnore
		}
	}
	return true
}
