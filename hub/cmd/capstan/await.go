package main

import (
	"context"
	"time"
)

// await calls look until it is satisfied or the time is over: at once, and
// whenever something has changed. That the time is over is no error.
func (s *shell) await(ctx context.Context, h hub, patience time.Duration, look func() (bool, error)) error {
	done, err := look()
	if done || err != nil || patience <= 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	changes, err := h.Watch(ctx, "")
	if err != nil {
		return err
	}
	for range changes {
		if done, err = look(); done || err != nil {
			break
		}
	}
	cancel()
	for range changes { // until it is closed
	}
	return err
}
