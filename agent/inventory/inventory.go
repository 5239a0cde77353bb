// Package inventory decides what an app owns: which objects have to be sent,
// which have left and are to be pruned, and when a prune is too much to be done
// without a person. It is pure: values in, values out.
package inventory

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// FieldManager is the name under which the agent applies.
const FieldManager = "capstan"

// AppLabel and NamespaceLabel mark every object the agent applies with the app
// it belongs to. They make `kubectl get -l` and a filtered watch possible; what
// is ours is decided by the inventory's uid alone, because controllers copy labels.
const (
	AppLabel       = "capstan.dev/app"
	NamespaceLabel = "capstan.dev/app-namespace"
)

// Item is one object an app owns, or may own: it is written down before the
// object is created, so that nothing applied is ever forgotten.
type Item struct {
	Ref         fleet.ObjectRef `json:"ref"`
	UID         string          `json:"uid,omitempty"`         // empty: not known to exist yet
	Hash        string          `json:"hash,omitempty"`        // of what was last applied
	Fingerprint string          `json:"fingerprint,omitempty"` // of what the API server made of it
	Yield       []string        `json:"yield,omitempty"`       // JSON pointers to fields that others changed and may keep
	// Foreign: it was there before and asked to be applied only where it is not.
	// It is neither changed nor pruned.
	Foreign bool `json:"foreign,omitempty"`
	// Ending: it is being deleted, or given up. It is not healed any more.
	Ending bool `json:"ending,omitempty"`
	// Remade: what UID names was gone, or is about to be deleted, and an object is made
	// in its place. What has the name may be ours under another uid.
	Remade bool `json:"remade,omitempty"`
	// Pruned is when it was deleted by a change that did not wait for its end; zero: it
	// was not.
	Pruned time.Time `json:"pruned,omitzero"`
}

// HashOf identifies an object's wanted content.
func HashOf(o unit.Object) string {
	sum := sha256.Sum256(o.JSON)
	return hex.EncodeToString(sum[:12])
}

// Delta is what separates the inventory from what is wanted.
type Delta struct {
	Apply     []unit.Object // new, or with other content than was last applied
	Unchanged []unit.Object
	Prune     []Item        // owned and no longer wanted
	New       []unit.Object // the part of Apply the inventory does not know
	Keep      []Item        // owned, no longer wanted, and staying all the same
	Recreate  []Item        // to be deleted before they can be applied
}

// IsNothing tells a delta that leaves everything as it is.
func (d Delta) IsNothing() bool { return len(d.Apply)+len(d.Prune)+len(d.Keep) == 0 }

// Compare sets what is wanted against what is owned.
func Compare(wanted []unit.Object, owned []Item) Delta {
	byRef := make(map[fleet.ObjectRef]Item, len(owned))
	for _, it := range owned {
		byRef[versionless(it.Ref)] = it
	}
	var d Delta
	for _, o := range wanted {
		key := versionless(o.Ref)
		it, known := byRef[key]
		delete(byRef, key)
		switch {
		case known && it.UID != "" && !it.Ending && (it.Hash == HashOf(o) || o.Asks.IfAbsent):
			d.Unchanged = append(d.Unchanged, o)
		case known:
			o.Asks.Adopt = it.UID == "" || it.Foreign
			d.Apply = append(d.Apply, o)
		default:
			o.Asks.Adopt = true
			d.Apply = append(d.Apply, o)
			d.New = append(d.New, o)
		}
	}
	for _, it := range byRef {
		d.Prune = append(d.Prune, it)
	}
	slices.SortFunc(d.Prune, func(a, b Item) int { return a.Ref.Compare(b.Ref) })
	return d
}

// Yielding gives the objects with what of each is left to others.
func Yielding(objects []unit.Object, owned []Item) []unit.Object {
	left := map[fleet.ObjectRef][]string{}
	for _, it := range owned {
		if len(it.Yield) > 0 {
			left[versionless(it.Ref)] = it.Yield
		}
	}
	if len(left) == 0 {
		return objects
	}
	out := slices.Clone(objects)
	for i := range out {
		out[i].Yield = left[versionless(out[i].Ref)]
	}
	return out
}

// ByUID gives the objects with the uids that they are known by: those of which it is
// not known that they may have been made anew.
func ByUID(objects []unit.Object, owned []Item) []unit.Object {
	uids := make(map[fleet.ObjectRef]string, len(owned))
	for _, it := range owned {
		if !it.Remade && !it.Foreign {
			uids[versionless(it.Ref)] = it.UID
		}
	}
	out := slices.Clone(objects)
	for i := range out {
		out[i].UID = uids[versionless(out[i].Ref)]
	}
	return out
}

// Extend adds the objects to the inventory, before they are applied.
func Extend(owned []Item, objects []unit.Object) []Item {
	known := make(map[fleet.ObjectRef]bool, len(owned))
	for _, it := range owned {
		known[versionless(it.Ref)] = true
	}
	out := slices.Clone(owned)
	for _, o := range objects {
		if !known[versionless(o.Ref)] {
			out = append(out, Item{Ref: o.Ref})
		}
	}
	return out
}

func versionless(r fleet.ObjectRef) fleet.ObjectRef {
	r.Version = ""
	return r
}

// Guard bounds what may be pruned without a person's confirmation.
type Guard struct {
	// MaxObjects that one change may prune.
	MaxObjects int
	// MaxPercent of an app's objects that one change may prune. It does not
	// count below FewObjects, or no small app could ever lose an object.
	MaxPercent int
}

// FewObjects may always be pruned, whatever share of the app they are.
const FewObjects = 3

// DefaultGuard is used where the spoke's configuration sets none.
var DefaultGuard = Guard{MaxObjects: 10, MaxPercent: 50}

// Check says why a prune needs a confirmation, or "" where it needs none.
// wanted is how many objects stay wanted, owned how many there are.
func (g Guard) Check(prune []Item, wanted, owned int) string {
	n := len(prune)
	if n == 0 {
		return ""
	}
	if reason := Precious(prune, "pruned"); reason != "" {
		return reason
	}
	switch {
	case wanted == 0:
		return fmt.Sprintf("the render is empty: all %d objects would be pruned", n)
	case n > g.MaxObjects:
		return fmt.Sprintf("%d objects would be pruned, more than %d", n, g.MaxObjects)
	case n > FewObjects && n*100 > g.MaxPercent*owned:
		return fmt.Sprintf("%d of %d objects would be pruned, more than %d%%", n, owned, g.MaxPercent)
	}
	return ""
}

// precious are the kinds of what takes others, or data, along when it goes: what
// takes most first.
var precious = []string{"/Namespace", "apiextensions.k8s.io/CustomResourceDefinition", "/PersistentVolumeClaim"}

func preciousness(it Item) int { return slices.Index(precious, it.Ref.Group+"/"+it.Ref.Kind) }

// fewNames of what is precious are in a message.
const fewNames = 5

// Precious says which of the objects take others, or data, with them when they
// are gone; "" where none does. fate is what becomes of them, as "pruned".
func Precious(items []Item, fate string) string {
	var some []Item
	for _, it := range items {
		if preciousness(it) >= 0 {
			some = append(some, it)
		}
	}
	slices.SortFunc(some, func(a, b Item) int {
		return cmp.Or(cmp.Compare(preciousness(a), preciousness(b)), a.Ref.Compare(b.Ref))
	})
	switch len(some) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("%s would be %s, and all it holds would go with it", some[0].Ref, fate)
	}
	return fmt.Sprintf("%s would be %s, and all they hold would go with them", listed(some), fate)
}

// listed names several objects, or the first of them.
func listed(items []Item) string {
	n := min(fewNames, len(items)-1) // and one more, or the number of the others
	names := make([]string, n)
	for i := range names {
		names[i] = items[i].Ref.String()
	}
	last := items[n].Ref.String()
	if len(items) > n+1 {
		last = fmt.Sprintf("%d more", len(items)-n)
	}
	return strings.Join(names, ", ") + " and " + last
}
