package hub

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// lock keeps a second hub out of a data directory: two servers on the same
// files would damage them. The kernel lets go when the process ends, however
// it ends.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fleet.WithHint(fleet.Conflict("data directory %s is in use: %w", dir, err), "is another hub running?")
	}
	return func() { f.Close() }, nil
}
