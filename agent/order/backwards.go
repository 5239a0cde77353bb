package order

import (
	"cmp"
	"slices"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Backwards sorts things into the waves of the objects that they are about, the
// highest number first: the order in which what was applied is taken away. An
// object that is not among the applied ones, or whose wave is no number, is in
// wave 0.
func Backwards[T any](things []T, of func(T) fleet.ObjectRef, applied []unit.Object) [][]T {
	numbers := make(map[fleet.ObjectRef]int, len(applied))
	for _, o := range applied {
		if n, err := WaveOf(o); err == nil {
			numbers[versionless(o.Ref)] = n
		}
	}
	byNumber := map[int][]T{}
	for _, t := range things {
		n := numbers[versionless(of(t))]
		byNumber[n] = append(byNumber[n], t)
	}
	var order []int
	for n := range byNumber {
		order = append(order, n)
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(b, a) })
	out := make([][]T, 0, len(order))
	for _, n := range order {
		out = append(out, byNumber[n])
	}
	return out
}

func versionless(r fleet.ObjectRef) fleet.ObjectRef {
	r.Version = ""
	return r
}
