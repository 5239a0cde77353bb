package pipe

import (
	"maps"
	"slices"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// AskKey asks for a data key, or for a share of one, that any one of the keys
// has. What is answered is worth no more than the one file: private keys stay
// with the parent.
type AskKey struct{ Any []unit.WrappedKey }

// Encode writes the frame's body.
func (a AskKey) Encode() []byte {
	var e encoder
	e.uint(uint64(len(a.Any)))
	for _, k := range a.Any {
		e.string(string(k.Kind))
		e.string(k.ID)
		e.uint(uint64(len(k.Attributes)))
		for _, name := range slices.Sorted(maps.Keys(k.Attributes)) {
			e.string(name)
			e.string(k.Attributes[name])
		}
		e.bytes(k.Ciphertext)
	}
	return e.b
}

// DecodeAskKey reads what Encode wrote.
func DecodeAskKey(b []byte) (AskKey, error) {
	d := decoder{b: b}
	n := d.count(4)
	a := AskKey{Any: make([]unit.WrappedKey, 0, n)}
	for range n {
		a.Any = append(a.Any, unit.WrappedKey{Kind: unit.KeyKind(d.string()), ID: d.string(), Attributes: d.labels(), Ciphertext: d.bytes()})
	}
	return a, d.done()
}

// Key is the answer to AskKey: the key, or why there is none.
type Key struct {
	Data          []byte
	Message, Hint string // of a refusal
	Away          bool   // it is refused only now: the answer may be another one later
}

// Encode writes the frame's body.
func (k Key) Encode() []byte {
	var e encoder
	if k.Message != "" {
		status := StatusRefused
		if k.Away {
			status = StatusAway
		}
		e.uint(uint64(status))
		e.string(k.Message)
		e.string(k.Hint)
		return e.b
	}
	e.uint(uint64(StatusOK))
	e.bytes(k.Data)
	return e.b
}

// DecodeKey reads what Encode wrote.
func DecodeKey(b []byte) (Key, Status, error) {
	d := decoder{b: b}
	s := Status(d.uint())
	var k Key
	switch s {
	case StatusOK:
		k.Data = d.bytes()
	case StatusRefused, StatusAway:
		k.Message, k.Hint, k.Away = d.string(), d.string(), s == StatusAway
	}
	return k, s, d.done()
}
