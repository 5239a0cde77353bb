//go:build race

package agent_test

// attackMemory is what a worker may use: the race detector takes its own.
const attackMemory = 1 << 30
