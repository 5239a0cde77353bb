package main

import (
	"runtime"
	"testing"
)

func TestTheMemoryLimitFollowsWhatIsNeeded(t *testing.T) {
	const mib = 1 << 20
	for name, c := range map[string]struct {
		need, pace uint64
		lasts      bool
		want       int64
	}{
		"a small hub":           {20 * mib, 0, false, 52 * mib},
		"a large one at rest":   {400 * mib, 2 * mib, false, 440 * mib},
		"as large, and at work": {400 * mib, 4 * mib, false, 480 * mib},
		"a storm":               {400 * mib, 500 * mib, false, 800 * mib},
		"one that lasts":        {390 * mib, 500 * mib, true, 520 * mib},
		"work that lasts":       {400 * mib, 4 * mib, true, 480 * mib},
	} {
		if got := memoryLimit(c.need, c.pace, c.lasts); got != c.want {
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

func TestAStormIsFollowedByCollectionsUntilNothingShrinksAnyMore(t *testing.T) {
	const mib = 1 << 20
	at := func(live, fixed, allocated, collections uint64) memory {
		return memory{live: live * mib, fixed: fixed * mib, allocated: allocated * mib, collections: collections}
	}
	k := keeper{before: at(300, 100, 0, 1), need: 400 * mib}
	for i, c := range []struct {
		now     memory
		limit   int64
		collect bool
	}{
		{at(300, 100, 1, 1), 432, false},   // at rest
		{at(300, 400, 100, 1), 800, false}, // ten thousand connect: stacks grow
		{at(310, 410, 101, 2), 1440, true}, // it is over
		{at(310, 220, 102, 3), 1060, true}, // they shrink, and once more
		{at(310, 120, 103, 4), 860, true},
		{at(310, 118, 104, 5), 856, false}, // as small as they get
		{at(310, 118, 105, 6), 856, false},
	} {
		limit, collect := k.look(c.now)
		if limit/mib != c.limit || collect != c.collect {
			t.Errorf("look %d: limit %d MiB, collect %v; want %d, %v", i, limit/mib, collect, c.limit, c.collect)
		}
	}
}

func TestAStormThatLastsHasLessRoom(t *testing.T) {
	const mib = 1 << 20
	k := keeper{before: memory{live: 300 * mib}, need: 300 * mib}
	var at uint64
	look := func(allocated uint64) int64 {
		at += allocated * mib
		limit, _ := k.look(memory{live: 300 * mib, allocated: at})
		return limit / mib
	}
	for i := range lasting {
		if got := look(50); got != 600 {
			t.Errorf("look %d at a storm: %d MiB, want 600", i+1, got)
		}
	}
	if got := look(50); got != 400 {
		t.Errorf("it lasts: %d MiB, want 400", got)
	}
	if got := look(1); got != 600 {
		t.Errorf("it is over: %d MiB, want 600", got)
	}
}
