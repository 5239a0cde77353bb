package watch

import (
	"cmp"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Settling says which kinds are watched of which not all that exists was seen
// yet. One that can't be watched is not among them: Blind tells that, and it is
// its apps' trouble alone.
func (w *Watcher) Settling() error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	var open []schema.GroupKind
	for gk, k := range w.kinds {
		select {
		case <-k.synced:
			continue
		default:
		}
		if k.blindNow() == nil {
			open = append(open, gk)
		}
	}
	if len(open) == 0 {
		return nil
	}
	slices.SortFunc(open, func(a, b schema.GroupKind) int { return cmp.Compare(a.String(), b.String()) })
	return fmt.Errorf("%d kinds are watched and were not listed yet, %s among them", len(open), open[0])
}
