package wire

import (
	"bytes"
	"encoding/json"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// maxDepth is well above what any message nests.
const maxDepth = 32

// checkShape bounds nesting before anything recursive looks at the text, and
// refuses objects that name a key twice: of two values the one that was checked
// might not be the one that counts. What is not JSON at all is left to the
// decoder to say.
func checkShape(data []byte) error {
	var open []nest
	for i := 0; i < len(data); i++ {
		switch c := data[i]; c {
		case '"':
			end := endOfString(data, i)
			if len(open) > 0 && !open[len(open)-1].take(data[i:end]) {
				return fleet.Invalid("the key at byte %d is there twice", i)
			}
			i = end - 1
		case '{', '[':
			if len(open) == maxDepth {
				return fleet.Invalid("nested deeper than %d", maxDepth)
			}
			open = append(open, nest{object: c == '{', key: c == '{'})
		case '}', ']':
			if len(open) > 0 {
				open = open[:len(open)-1]
			}
		case ',':
			if len(open) > 0 {
				open[len(open)-1].key = open[len(open)-1].object
			}
		}
	}
	return nil
}

// endOfString is just behind the string that begins at i.
func endOfString(data []byte, i int) int {
	for i++; i < len(data); i++ {
		switch data[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(data)
}

// nest is an object or array that is open.
type nest struct {
	object bool
	key    bool // the next string is one
	few    [][]byte
	many   map[string]bool // once there are more than a few
}

// fewKeys is how many keys are compared one by one.
const fewKeys = 16

// take notes a key, with its quotes, and tells whether it is new.
func (n *nest) take(quoted []byte) bool {
	if !n.key {
		return true
	}
	n.key = false
	key := quoted
	if bytes.IndexByte(quoted, '\\') >= 0 {
		var s string
		if json.Unmarshal(quoted, &s) == nil { // what is not JSON is refused later
			key = []byte(`"` + s + `"`)
		}
	}
	if n.many != nil {
		known := n.many[string(key)]
		n.many[string(key)] = true
		return !known
	}
	for _, k := range n.few {
		if bytes.Equal(k, key) {
			return false
		}
	}
	if n.few = append(n.few, key); len(n.few) > fewKeys {
		n.many = make(map[string]bool)
		for _, k := range n.few {
			n.many[string(k)] = true
		}
	}
	return true
}
