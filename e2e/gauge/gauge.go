// Package gauge reads what the measuring programs need to know of a process,
// and keeps their numbers in bench.json.
package gauge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The two sizes of a process that Linux keeps.
const (
	Resident = "VmRSS" // now
	Peak     = "VmHWM" // the most so far
)

// Memory of a process in MiB; 0 once it has ended.
func Memory(pid int, field string) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024
		}
	}
	return 0
}

// CPU is how many seconds of it a process has used, with its children that
// have ended; 0 once it has ended itself.
func CPU(pid int) float64 {
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

// Percentile of durations in seconds; p is between 0 and 1.
func Percentile(all []time.Duration, p float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[int(p*float64(len(sorted)-1)+0.5)].Seconds()
}

// WriteSection replaces one section of bench.json and leaves the others.
func WriteSection(file, name string, section any) error {
	all := map[string]json.RawMessage{}
	old, err := os.ReadFile(file)
	switch {
	case err == nil:
		if err := json.Unmarshal(old, &all); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if all[name], err = json.Marshal(section); err != nil {
		return err
	}
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}
