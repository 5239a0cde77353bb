package health

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Since tells since when an object is as it is said to be, as far as the object
// tells: never earlier than it may have become so. Zero: it does not tell.
//
// What an object says follows from what is written in it, so it said the same
// when it was last written, if not before. Where one condition gives the
// message, its time counts instead, unless what is wanted was written later.
func Since(u *unstructured.Unstructured, s State) time.Time {
	o := object{u}
	wanted := u.GetCreationTimestamp().Time
	written := wanted
	for _, m := range u.GetManagedFields() {
		if m.Time == nil {
			continue
		}
		written = later(written, m.Time.Time)
		if m.Subresource == "" {
			wanted = later(wanted, m.Time.Time)
		}
	}
	for _, e := range o.list("status", "conditions") {
		m, _ := e.(map[string]any)
		kind, _ := m["type"].(string)
		if c := o.condition(kind); s.Message == "" || c.why() != s.Message && c.message != s.Message {
			continue
		}
		at, _ := m["lastTransitionTime"].(string)
		if t, err := time.Parse(time.RFC3339, at); err == nil {
			return later(wanted, t)
		}
	}
	return written
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
