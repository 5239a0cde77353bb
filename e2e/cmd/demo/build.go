package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/capstan-gitops/capstan/e2e/build"
)

const progressEvery = 10 * time.Second

func (d *demo) build(ctx context.Context) (map[build.Program]string, error) {
	d.heading("Building; Kubernetes itself takes minutes the first time, seconds after that")
	paths := make(map[build.Program]string)
	for _, p := range build.All {
		path, err := d.buildOne(ctx, p)
		if err != nil {
			return nil, err
		}
		paths[p] = path
	}
	return paths, nil
}

func (d *demo) buildOne(ctx context.Context, program build.Program) (string, error) {
	start := time.Now()
	var compiled atomic.Int64
	done := make(chan struct{})
	told := make(chan struct{})
	go func() {
		defer close(told)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				d.say("  %s: %d packages compiled, %s", program, compiled.Load(), time.Since(start).Round(time.Second))
			}
		}
	}()
	path, err := build.Make(ctx, program, func(string) { compiled.Add(1) })
	close(done)
	<-told
	if err != nil {
		return "", err
	}
	d.say("  %s: built in %s", program, time.Since(start).Round(100*time.Millisecond))
	return path, nil
}
