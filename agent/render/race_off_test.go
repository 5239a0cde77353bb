//go:build !race

package render_test

// smallMemory is enough for a small render and not for a large one.
const smallMemory = 64 << 20

// enoughMemory is the default: renders are to do with it.
const enoughMemory = 0
