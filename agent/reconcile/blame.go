package reconcile

import (
	"encoding/json"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/capstan-gitops/capstan/agent/inventory"
)

// changedBy names the field manager behind a drift: of those that hold one of
// the fields, the one that wrote last. Where nobody holds them any more, because
// they were taken away, or where nothing of ours was lost and only people's
// additions count, it is whoever wrote last. Empty: the object does not tell.
func changedBy(managers []metav1.ManagedFieldsEntry, fields []string) string {
	var holder, writer string
	var held, wrote metav1.Time
	for _, m := range managers {
		added := inventory.IsPerson(m.Manager) && m.Subresource == ""
		if m.Manager == inventory.FieldManager || m.Subresource == "status" || !added && len(fields) == 0 {
			continue
		}
		var at metav1.Time // none for the scale subresource
		if m.Time != nil {
			at = *m.Time
		}
		if !at.Before(&wrote) {
			wrote, writer = at, m.Manager
		}
		if !at.Before(&held) && holdsOne(m.FieldsV1, fields) {
			held, holder = at, m.Manager
		}
	}
	if holder != "" {
		return holder
	}
	return writer
}

func holdsOne(owned *metav1.FieldsV1, fields []string) bool {
	var tree map[string]any
	if owned == nil || json.Unmarshal(owned.GetRawBytes(), &tree) != nil {
		return false
	}
	for _, pointer := range fields {
		if holds(tree, strings.Split(pointer, "/")[1:]) {
			return true
		}
	}
	return false
}

// holds tells whether a field set has the field, or something below it. The
// items of lists go by their keys there, not by number: from a list on, whoever
// holds anything of it holds the field.
func holds(tree map[string]any, path []string) bool {
	for _, step := range path {
		below, ok := tree["f:"+unescape(step)].(map[string]any)
		if !ok {
			return len(tree) == 0 || isList(tree) // held whole, or a list
		}
		tree = below
	}
	return true
}

func isList(tree map[string]any) bool {
	for key := range tree {
		if strings.HasPrefix(key, "k:") || strings.HasPrefix(key, "v:") || strings.HasPrefix(key, "i:") {
			return true
		}
	}
	return false
}

func unescape(step string) string { return strings.NewReplacer("~1", "/", "~0", "~").Replace(step) }
