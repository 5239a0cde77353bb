package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// allOfLeader is All where several servers keep a bucket. The one that reads it
// out may be behind: what is there is asked of the one that leads, and waited for.
func (b *kvBucket) allOfLeader(ctx context.Context, each func(string, []byte, uint64) error) error {
	var newest *jetstream.RawStreamMsg
	err := patiently(ctx, func(ctx context.Context) (err error) {
		newest, err = b.stream.GetLastMsgForSubject(ctx, b.prefix()+">")
		return err
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", b.name, unavailable(err))
	}
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	enough := errors.New("that is all")
	err = b.Follow(ctx, func(key string, value []byte, version uint64) error {
		if value != nil {
			if err := each(key, value, version); err != nil {
				return err
			}
		}
		if version >= newest.Sequence {
			return enough
		}
		return nil
	})
	switch {
	case errors.Is(err, enough):
		return nil
	case err == nil:
		return fmt.Errorf("%s: %w", b.name, fleet.Unavailable("the watch ended early"))
	}
	return err
}
