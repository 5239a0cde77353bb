//go:build race

package render_test

// smallMemory is enough for a small render and not for a large one. The race
// detector takes several times a program's own memory.
const smallMemory = 320 << 20

// enoughMemory is what a render may use where a test is not about that.
const enoughMemory = 1 << 30
