package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/capstan-gitops/capstan/e2e/gauge"
)

// children of a process.
func children(pid int) []int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var out []int
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for word := range strings.FieldsSeq(string(b)) {
			if n, err := strconv.Atoi(word); err == nil {
				out = append(out, n)
			}
		}
	}
	return out
}

// peaks watches for the largest child a process has had.
type peaks struct {
	mu     sync.Mutex
	worker float64
}

func (p *peaks) watch(ctx context.Context, pid int) {
	for ctx.Err() == nil {
		for _, c := range children(pid) {
			if m := gauge.Memory(c, gauge.Peak); m > 0 {
				p.mu.Lock()
				p.worker = max(p.worker, m)
				p.mu.Unlock()
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *peaks) largestWorker() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.worker
}
