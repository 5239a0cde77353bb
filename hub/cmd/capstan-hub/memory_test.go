package main

import (
	"runtime"
	"testing"
)

func TestTheMemoryLimitFollowsWhatIsNeeded(t *testing.T) {
	const mib = 1 << 20
	for name, c := range map[string]struct {
		need, pace uint64
		want       int64
	}{
		"a small hub":           {20 * mib, 0, 52 * mib},
		"a large one at rest":   {400 * mib, 10 * mib, 450 * mib},
		"as large, and at work": {400 * mib, 20 * mib, 480 * mib},
		"a storm":               {400 * mib, 500 * mib, 600 * mib},
	} {
		if got := memoryLimit(c.need, c.pace); got != c.want {
			t.Errorf("%s: %d MiB, want %d", name, got/mib, c.want/mib)
		}
	}
}

func TestTheRuntimeSaysWhatIsNeeded(t *testing.T) {
	runtime.GC()
	if m := readMemory(); m.live == 0 || m.fixed == 0 || m.allocated < m.live || m.collections == 0 {
		t.Errorf("%+v", m)
	}
}
