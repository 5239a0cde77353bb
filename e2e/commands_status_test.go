package e2e_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
)

// says checks that an app is not Ready, for a reason and with a message, and
// that people are told so in both places where they look: on the App object in
// the cluster, and in what capstan get apps prints. The app is in capstan-system, or
// NAME is NAMESPACE/NAME.
func (p *play) says(args []string) (string, error) {
	if len(args) != 4 {
		return "", errUsage
	}
	cluster, name, reason := args[0], args[1], args[2]
	message, err := regexp.Compile(args[3])
	if err != nil {
		return "", fmt.Errorf("%w: %w", errUsage, err)
	}
	_, bare, both := strings.Cut(name, "/")
	if !both {
		bare = name
	}
	out, err := p.app([]string{cluster, bare, "reason=" + reason, "message=~" + args[3]})
	if err != nil {
		return out, err
	}
	table, err := p.stage.Capstan(p.ctx, "get", "apps", bare, "--cluster", cluster)
	if err != nil {
		return out, err
	}
	if !message.MatchString(table) {
		return out, fmt.Errorf("no match for %s in capstan get apps: %s", message, table)
	}
	ready, err := p.ready(cluster, name)
	if err != nil {
		return out, err
	}
	if ready.Status != metav1.ConditionFalse || ready.Reason != reason || !message.MatchString(ready.Message) {
		return out, fmt.Errorf("on the App: Ready is %s because %s: %s", ready.Status, ready.Reason, ready.Message)
	}
	return out, nil
}

// ready is the App's Ready condition.
func (p *play) ready(cluster, name string) (metav1.Condition, error) {
	namespace := "capstan-system"
	if in, bare, both := strings.Cut(name, "/"); both {
		namespace, name = in, bare
	}
	doc, err := p.stage.Kubectl(p.ctx, cluster, "", "-n", namespace, "get", "app", name, "-o", "json")
	if err != nil {
		return metav1.Condition{}, err
	}
	var app v1alpha1.App
	if err := json.Unmarshal([]byte(doc), &app); err != nil {
		return metav1.Condition{}, err
	}
	for _, c := range app.Status.Conditions {
		if c.Type == "Ready" {
			return c, nil
		}
	}
	return metav1.Condition{}, fmt.Errorf("app %s on %s has no Ready condition", name, cluster)
}

// confirm annotates an App with the plan that it waits for.
func (p *play) confirm(args []string) (string, error) {
	if len(args) != 2 {
		return "", errUsage
	}
	app := []string{"-n", "capstan-system"}
	plan, err := p.stage.Kubectl(p.ctx, args[0], "", append(app, "get", "app", args[1], "-o", "jsonpath={.status.pending.plan}")...)
	if err != nil {
		return "", err
	}
	if plan == "" {
		return "", fmt.Errorf("nothing waits for %s on %s", args[1], args[0])
	}
	return p.stage.Kubectl(p.ctx, args[0], "", append(app, "annotate", "--overwrite", "app", args[1], "capstan.dev/confirm-prune="+plan)...)
}
