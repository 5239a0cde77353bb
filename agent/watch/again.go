package watch

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// pageSize bounds how many objects are in memory while they are looked at again.
const pageSize = 250

// LookAgain has an app's objects of one kind judged anew: of what was seen, only
// a word is kept, so they are listed once more. A kind that is not watched, or
// that can't be listed now, is judged when it is first seen.
func (w *Watcher) LookAgain(ctx context.Context, kind fleet.ObjectRef, app fleet.AppName) error {
	k := w.kind(kind)
	if k == nil || k.blindNow() != nil {
		return nil
	}
	if err := w.Synced(ctx, kind); err != nil {
		return err
	}
	k.again.Lock()
	defer k.again.Unlock()
	k.noting(map[objectKey]bool{})
	defer k.noting(nil)
	o := metav1.ListOptions{
		LabelSelector: labels.Set{inventory.AppLabel: app.Name, inventory.NamespaceLabel: app.Namespace}.String(),
		Limit:         pageSize,
	}
	for {
		list, err := k.served.List(ctx, o)
		if err != nil {
			return fmt.Errorf("look at %s of %s again: %w", kind.Kind, app, err)
		}
		for i := range list.Items {
			k.judgeAgain(&list.Items[i])
		}
		if o.Continue = list.GetContinue(); o.Continue == "" {
			return nil
		}
	}
}

func (k *kindWatch) noting(moved map[objectKey]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.moved = moved
}

// judgeAgain takes what a list says of an object. What the watch told since the
// list was asked for may be newer, and was judged as it should be; and what it
// has not shown yet, it will.
func (k *kindWatch) judgeAgain(u *unstructured.Unstructured) {
	r, key := k.reduce(u), objectKey{u.GetNamespace(), u.GetName()}
	k.mu.Lock()
	_, known := k.seen[key]
	news := known && !k.moved[key]
	if news {
		news = k.put(k.seen, key, r)
	}
	k.mu.Unlock()
	if news {
		k.lookInto(key, r)
		k.tell(key, false)
	}
}
