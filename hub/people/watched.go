package people

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"sync"
	"time"
)

// watched is a file that is read again when it has changed.
type watched[T any] struct {
	what, path string
	parse      func(path string, raw []byte) (T, error)

	mu    sync.Mutex
	seen  fileState
	value T
	err   error
	sum   string // of the content, SHA-256
	fresh bool   // it is another than before, and nobody has taken note of that
}

type fileState struct {
	size int64
	time time.Time
}

// current is the file's content as it is now, or why it can't be had.
func (w *watched[T]) current() (T, error) {
	var none T
	w.mu.Lock()
	defer w.mu.Unlock()
	info, err := os.Stat(w.path)
	if err != nil {
		return none, fmt.Errorf("%s: %w", w.what, err)
	}
	now := fileState{size: info.Size(), time: info.ModTime()}
	if now == w.seen {
		return w.value, w.err
	}
	raw, err := os.ReadFile(w.path)
	if err != nil {
		return none, fmt.Errorf("%s: %w", w.what, err)
	}
	sum := sha256.Sum256(raw)
	before := w.sum
	w.seen, w.sum = now, hex.EncodeToString(sum[:])
	w.fresh = w.fresh || before != "" && before != w.sum
	w.value, w.err = w.parse(w.path, raw)
	return w.value, w.err
}

// news tells, once, what the file has become, and whether that can't be used.
func (w *watched[T]) news() (sum string, unusable, is bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	is, w.fresh = w.fresh, false
	return w.sum, w.err != nil, is
}

// untold has news told again.
func (w *watched[T]) untold() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fresh = true
}
