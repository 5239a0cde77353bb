//go:build !linux

package clouds

// Limit does nothing here: agents run on Linux.
func Limit() {}
