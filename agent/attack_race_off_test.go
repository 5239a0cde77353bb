//go:build !race

package agent_test

// attackMemory is what a worker may use, in bytes.
const attackMemory = 256 << 20
