package inventory_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func object(kind, name, content string) unit.Object {
	return unit.Object{Ref: fleet.ObjectRef{Version: "v1", Kind: kind, Namespace: "shop", Name: name}, JSON: []byte(content)}
}

func owned(objects ...unit.Object) []inventory.Item {
	var items []inventory.Item
	for _, o := range objects {
		items = append(items, inventory.Item{Ref: o.Ref, UID: "uid-" + o.Ref.Name, Hash: inventory.HashOf(o)})
	}
	return items
}

func names(objects []unit.Object) string {
	var out []string
	for _, o := range objects {
		out = append(out, o.Ref.Name)
	}
	return strings.Join(out, " ")
}

func TestCompareSendsOnlyWhatChanged(t *testing.T) {
	a, b, c := object("ConfigMap", "a", `1`), object("ConfigMap", "b", `1`), object("ConfigMap", "c", `1`)
	changed := object("ConfigMap", "b", `2`)
	newVersion := b
	newVersion.Ref.Version = "v2"
	unconfirmed := owned(a, b)
	unconfirmed[1].UID = ""

	for _, tt := range []struct {
		name                         string
		wanted                       []unit.Object
		owned                        []inventory.Item
		apply, isNew, same, toBeGone string
	}{
		{"nothing owned yet", []unit.Object{a, b}, nil, "a b", "a b", "", ""},
		{"all as applied", []unit.Object{a, b}, owned(a, b), "", "", "a b", ""},
		{"one changed", []unit.Object{a, changed}, owned(a, b), "b", "", "a", ""},
		{"one more", []unit.Object{a, b, c}, owned(a, b), "c", "c", "a b", ""},
		{"one left", []unit.Object{a}, owned(a, b), "", "", "a", "b"},
		{"another API version is the same object", []unit.Object{a, newVersion}, owned(a, b), "", "", "a b", ""},
		{"one whose apply was never confirmed", []unit.Object{a, b}, unconfirmed, "b", "", "a", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := inventory.Compare(tt.wanted, tt.owned)
			var gone []string
			for _, it := range d.Prune {
				gone = append(gone, it.Ref.Name)
			}
			for _, c := range [][3]string{
				{"apply", names(d.Apply), tt.apply},
				{"new", names(d.New), tt.isNew},
				{"unchanged", names(d.Unchanged), tt.same},
				{"prune", strings.Join(gone, " "), tt.toBeGone},
			} {
				if c[1] != c[2] {
					t.Errorf("%s: got %q, want %q", c[0], c[1], c[2])
				}
			}
		})
	}
}

func TestExtendNeverForgets(t *testing.T) {
	a, b := object("ConfigMap", "a", `1`), object("ConfigMap", "b", `1`)
	items := inventory.Extend(owned(a), []unit.Object{a, b})
	if len(items) != 2 || items[0].UID != "uid-a" || items[1].UID != "" || items[1].Ref != b.Ref {
		t.Errorf("got %+v", items)
	}
}

func TestGuardStopsWhatIsTooMuch(t *testing.T) {
	many := func(n int) []inventory.Item {
		var items []inventory.Item
		for range n {
			items = append(items, owned(object("ConfigMap", "x", ""))...)
		}
		return items
	}
	namespace := []inventory.Item{{Ref: fleet.ObjectRef{Version: "v1", Kind: "Namespace", Name: "shop"}}}
	claim := []inventory.Item{{Ref: fleet.ObjectRef{Version: "v1", Kind: "PersistentVolumeClaim", Namespace: "shop", Name: "db"}}}
	crd := []inventory.Item{{Ref: fleet.ObjectRef{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition", Name: "x"}}}
	guard := inventory.Guard{MaxObjects: 10, MaxPercent: 50}

	for _, tt := range []struct {
		name          string
		prune         []inventory.Item
		wanted, owned int
		reason        string // part of it; empty: passes
	}{
		{"nothing to prune", nil, 5, 5, ""},
		{"a few of few", many(3), 1, 4, ""},
		{"half", many(4), 4, 8, ""},
		{"more than half", many(5), 3, 8, "5 of 8"},
		{"more than ten of many", many(11), 100, 111, "more than 10"},
		{"an empty render", many(1), 0, 1, "empty"},
		{"a namespace", namespace, 9, 10, "Namespace shop would be pruned, and all it holds would go with it"},
		{"several such", slices.Concat(claim, many(2), namespace, crd), 9, 12, "Namespace shop, CustomResourceDefinition.apiextensions.k8s.io x and PersistentVolumeClaim shop/db would be pruned, and all they hold would go with them"},
		{"more than a message can hold", slices.Repeat(namespace, 8), 9, 17, "Namespace shop, Namespace shop, Namespace shop, Namespace shop, Namespace shop and 3 more would be pruned"},
		{"a claim", claim, 9, 10, "PersistentVolumeClaim shop/db"},
		{"a CRD", crd, 9, 10, "CustomResourceDefinition"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := guard.Check(tt.prune, tt.wanted, tt.owned)
			if (got == "") != (tt.reason == "") || !strings.Contains(got, tt.reason) {
				t.Errorf("got %q, want %q", got, tt.reason)
			}
		})
	}
}
