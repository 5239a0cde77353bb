package broker

import (
	"math"
	"testing"
)

// What agents may take of the files a process may open leaves some.
func TestAgentsDoNotTakeEveryFile(t *testing.T) {
	for files, want := range map[uint64]int{
		64:             256, // too few for anything: the limit is another's to say
		1024:           768,
		20_000:         18_000,
		1 << 20:        1<<20 - 4096,
		math.MaxUint64: math.MaxInt32,
	} {
		if got := connectionsOf(files); got != want {
			t.Errorf("of %d files: %d, want %d", files, got, want)
		}
	}
	if n, err := mostConnections(); err != nil || n <= 0 {
		t.Errorf("here: %d, %v", n, err)
	}
}
