package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// gcReading is the garbage, in percent of what lives, that is let be while the
	// state is read: collecting more often is a good part of a start's time.
	gcReading = 200
	// gcServing is the same afterwards; at rest the limit has it collected sooner.
	gcServing = 100

	// memoryLooks is the time between looks at what is needed: short, because a
	// label that goes to ten thousand agents takes a second.
	memoryLooks = 200 * time.Millisecond
	// collectEvery is how often it may be collected, about, to stay below the limit.
	collectEvery = 4 * time.Second
	leastRoom    = 32 << 20
	// stormy is the share of what is needed that is allocated in one look when many
	// come at once.
	stormy = 40
	// lasting is how many looks a storm has all the room it can use. One that goes
	// on, as when ten thousand agents come for the first time, leaves what stays in
	// the holes of what does not, and such memory is never whole again.
	lasting = 10
)

// tendMemory keeps the process near what it needs, until ctx ends; what it
// returns is to be called when the hub has started. When ten thousand agents
// come at once, each connection's stacks grow to what the handshake takes, and
// without this they would stay so until as much garbage again had come. Whoever
// sets GOGC or GOMEMLIMIT has it as they say.
func tendMemory(ctx context.Context, env func(string) string) (started func()) {
	if env("GOGC") != "" || env("GOMEMLIMIT") != "" {
		return func() {}
	}
	debug.SetGCPercent(gcReading)
	return func() {
		debug.SetGCPercent(gcServing)
		go keepNear(ctx)
	}
}

func keepNear(ctx context.Context) {
	t := time.NewTicker(memoryLooks)
	defer t.Stop()
	k := keeper{before: readMemory()}
	k.need = k.before.need()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		limit, collect := k.look(readMemory())
		debug.SetMemoryLimit(limit)
		if collect {
			runtime.GC()
		}
	}
}

// keeper decides, a look at a time, how much memory the process may have.
type keeper struct {
	before  memory
	need    uint64 // bytes
	pace    uint64 // bytes allocated a look, lately; stacks too
	swollen bool   // since a storm it has not come down to what it needs
	asked   bool   // the last look had it collected
	storms  int    // looks at a storm, less those at none since
}

// look tells the limit from now on, in bytes, and whether it is worth it to
// collect at once.
func (k *keeper) look(now memory) (limit int64, collect bool) {
	needed := k.need
	if now.collections != k.before.collections {
		// Only then are stacks made smaller: what they have grown to meanwhile is
		// not what is needed, and takes of the room.
		k.need = now.need()
	}
	allocated := now.allocated - k.before.allocated + now.fixed - min(now.fixed, k.before.fixed)
	storm := allocated > k.need/stormy
	switch {
	case storm:
		k.swollen = true
		k.storms = min(k.storms+1, 2*lasting)
	case k.asked:
		// Each collection makes stacks half as large, at most.
		k.swollen = k.need < needed-needed/32
	}
	if !storm {
		k.storms = max(k.storms-1, 0)
	}
	k.asked = k.swollen && !storm
	k.pace = max(allocated, k.pace*15/16) // up at once, down slowly
	k.before = now
	return memoryLimit(k.need, k.pace, k.storms > lasting), k.asked
}

// memory is what the runtime says of itself, in bytes.
type memory struct {
	live      uint64 // of the heap, when it was last collected
	fixed     uint64 // taken from the system for all but the heap: stacks above all
	allocated uint64 // ever

	collections uint64 // ever
}

func (m memory) need() uint64 { return m.live + m.fixed }

func readMemory() memory {
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/gc/cycles/total:gc-cycles"},
	}
	metrics.Read(samples)
	of := func(i int) uint64 { return samples[i].Value.Uint64() }
	return memory{live: of(0), allocated: of(1), fixed: of(2) - min(of(2), of(3)+of(4)+of(5)), collections: of(6)}
}

// memoryLimit leaves room for what is allocated between two collections at a pace, in
// bytes a look: a sixteenth of what is needed at least, since each collection costs
// in proportion to it, and as much again at most; a third of it while a storm lasts.
func memoryLimit(need, pace uint64, lasts bool) int64 {
	most := need
	if lasts {
		most = need / 3
	}
	room := pace * uint64(collectEvery/memoryLooks)
	room = max(need/16, min(room, most))
	return int64(need + max(room, leastRoom))
}
