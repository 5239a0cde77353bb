package apply

import (
	"strconv"
	"strings"
)

// leaveOut takes a field away. What is not sent stays as others have it: when
// they changed it, it became theirs.
func leaveOut(value any, pointer string) {
	step, rest, deeper := strings.Cut(strings.TrimPrefix(pointer, "/"), "/")
	step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
	switch v := value.(type) {
	case map[string]any:
		if deeper {
			leaveOut(v[step], rest)
		} else {
			delete(v, step)
		}
	case []any: // an item itself is never left out: its place is how the others are found
		if i, err := strconv.Atoi(step); err == nil && deeper && i >= 0 && i < len(v) {
			leaveOut(v[i], rest)
		}
	}
}
