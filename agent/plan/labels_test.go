package plan_test

import (
	"testing"

	"github.com/capstan-gitops/capstan/agent/plan"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestOnlyRelabelled(t *testing.T) {
	const was = `{"kind":"ConfigMap","metadata":{"name":"a","labels":{"release":"1"}},"data":{"n":12345678901234567}}`
	one := fleet.ObjectRef{Version: "v1", Kind: "ConfigMap", Namespace: "shop", Name: "a"}
	newer, wide := one, one
	newer.Version, wide.Namespace = "v2", ""
	for name, c := range map[string]struct {
		ref  fleet.ObjectRef
		is   string
		want bool
	}{
		"another value":       {one, `{"kind":"ConfigMap","metadata":{"name":"a","labels":{"release":"2"}},"data":{"n":12345678901234567}}`, true},
		"another label":       {one, `{"kind":"ConfigMap","metadata":{"name":"a","labels":{"release":"1","tier":"web"}},"data":{"n":12345678901234567}}`, true},
		"none any more":       {one, `{"kind":"ConfigMap","metadata":{"name":"a"},"data":{"n":12345678901234567}}`, true},
		"content too":         {one, `{"kind":"ConfigMap","metadata":{"name":"a","labels":{"release":"2"}},"data":{"n":2}}`, false},
		"an annotation too":   {one, `{"kind":"ConfigMap","metadata":{"name":"a","labels":{"release":"2"},"annotations":{"a":"b"}},"data":{"n":12345678901234567}}`, false},
		"a value that is bad": {one, `{"kind":"ConfigMap","metadata":{"name":"a","labels":{"release":"no spaces"}},"data":{"n":12345678901234567}}`, false},
		"a name that is bad":  {one, `{"kind":"ConfigMap","metadata":{"name":"a","labels":{"a/b/c":"1"}},"data":{"n":12345678901234567}}`, false},
		"a number as value":   {one, `{"kind":"ConfigMap","metadata":{"name":"a","labels":{"release":2}},"data":{"n":12345678901234567}}`, false},
		"no labels but text":  {one, `{"kind":"ConfigMap","metadata":{"name":"a","labels":"release"},"data":{"n":12345678901234567}}`, false},
		"another version":     {newer, `{"kind":"ConfigMap","metadata":{"name":"a","labels":{"release":"2"}},"data":{"n":12345678901234567}}`, false},
		"a cluster's object":  {wide, `{"kind":"ConfigMap","metadata":{"name":"a","labels":{"release":"2"}},"data":{"n":12345678901234567}}`, false},
		"no JSON":             {one, `{`, false},
	} {
		before := unit.Object{Ref: one, JSON: []byte(was)}
		before.Ref.Namespace = c.ref.Namespace
		if got := plan.OnlyRelabelled(before, unit.Object{Ref: c.ref, JSON: []byte(c.is)}); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}
