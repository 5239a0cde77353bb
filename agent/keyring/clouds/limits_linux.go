package clouds

import "golang.org/x/sys/unix"

// Limit makes the kernel end a process that keeps what a service sends
// without end, and leaves no core dump with data keys in it.
func Limit() {
	const data = 1 << 30 // what Go has reserved counts, which is more than it uses
	_ = unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: data, Max: data})
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
}
