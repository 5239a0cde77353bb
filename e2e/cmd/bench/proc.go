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
)

// memory of a process, in MiB: field is VmRSS (now) or VmHWM (the most so far).
func memory(pid int, field string) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0 // it has ended
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024
		}
	}
	return 0
}

// cpuSeconds a process has used, with its children that have ended.
func cpuSeconds(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	ticks := 0.0
	for _, i := range []int{11, 12, 13, 14} { // utime stime cutime cstime
		t, _ := strconv.ParseFloat(fields[i], 64)
		ticks += t
	}
	return ticks / 100
}

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
			if m := memory(c, "VmHWM"); m > 0 {
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
