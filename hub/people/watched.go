package people

import (
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
	w.seen = now
	w.value, w.err = w.parse(w.path, raw)
	return w.value, w.err
}
