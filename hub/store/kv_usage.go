package store

import (
	"context"
	"maps"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// Usage is how much one bucket, or the log, takes.
type Usage struct {
	Name            string
	Bytes, MaxBytes int64
	Documents       uint64
}

// Usage asks each bucket, and the log, how much it takes. What could be told
// comes with an ErrUnavailable.
func (s *KV) Usage(ctx context.Context) ([]Usage, error) {
	var out []Usage
	add := func(name string, stream jetstream.Stream) error {
		info, err := stream.Info(ctx)
		if err != nil {
			return unavailable(err)
		}
		out = append(out, Usage{Name: name, Bytes: int64(info.State.Bytes), MaxBytes: info.Config.MaxBytes, Documents: info.State.Msgs})
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(s.buckets)) {
		if err := add(name, s.buckets[name].stream); err != nil {
			return out, err
		}
	}
	for _, l := range []*kvLog{s.log, s.changes} {
		if err := add(l.name, l.stream); err != nil {
			return out, err
		}
	}
	return out, nil
}
