package source

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// parseCommit finds a commit's tree: its first line.
func parseCommit(content []byte) (unit.Hash, error) {
	line, _, ended := bytes.Cut(content, []byte("\n"))
	name, ok := bytes.CutPrefix(line, []byte("tree "))
	if !ok || !ended {
		return unit.Hash{}, errors.New("malformed commit: it does not begin with its tree")
	}
	return unit.ParseHash(string(name))
}

// parseParents finds a commit's parents: the lines after its first.
func parseParents(content []byte) ([]unit.Hash, error) {
	_, rest, _ := bytes.Cut(content, []byte("\n"))
	var parents []unit.Hash
	for {
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		name, ok := bytes.CutPrefix(line, []byte("parent "))
		if !ok {
			return parents, nil
		}
		h, err := unit.ParseHash(string(name))
		if err != nil {
			return nil, fmt.Errorf("malformed commit: a parent: %w", err)
		}
		parents, rest = append(parents, h), after
	}
}

// parseTag finds what an annotated tag is of: its first two lines.
func parseTag(content []byte) (of unit.Hash, kind string, err error) {
	line, rest, _ := bytes.Cut(content, []byte("\n"))
	name, ok := bytes.CutPrefix(line, []byte("object "))
	line, _, ended := bytes.Cut(rest, []byte("\n"))
	what, typed := bytes.CutPrefix(line, []byte("type "))
	if !ok || !typed || !ended {
		return unit.Hash{}, "", errors.New("malformed tag: it does not begin with its object and type")
	}
	of, err = unit.ParseHash(string(name))
	return of, string(what), err
}

// parseTree reads a tree object. What it accepts is safe to join to a path.
func parseTree(content []byte) ([]unit.TreeEntry, error) {
	const hashLen = len(unit.Hash{})
	entries := make([]unit.TreeEntry, 0, len(content)/(hashLen+20))
	seen := map[string]struct{}{}
	for rest := content; len(rest) > 0; {
		head, after, ok := bytes.Cut(rest, []byte{0})
		if !ok || len(after) < hashLen {
			return nil, errors.New("malformed tree: it ends within an entry")
		}
		mode, name, ok := bytes.Cut(head, []byte(" "))
		if !ok {
			return nil, errors.New("malformed tree: an entry has no mode")
		}
		e := unit.TreeEntry{Name: string(name)}
		if err := checkName(e.Name); err != nil {
			return nil, err
		}
		if _, twice := seen[e.Name]; twice {
			return nil, fmt.Errorf("malformed tree: %q is there twice", e.Name)
		}
		seen[e.Name] = struct{}{}
		var err error
		if e.Mode, err = parseMode(string(mode)); err != nil {
			return nil, fmt.Errorf("malformed tree: %q: %w", e.Name, err)
		}
		copy(e.Hash[:], after)
		entries = append(entries, e)
		rest = after[hashLen:]
	}
	return entries, nil
}

func checkName(name string) error {
	if name == "" || name == "." || name == ".." || bytes.ContainsRune([]byte(name), '/') {
		return fmt.Errorf("malformed tree: %q can't be a file's name", name)
	}
	return nil
}

// parseMode reads a mode. Old repositories hold file modes such as 100664: of
// those only whether the file may be executed counts, as for git itself.
func parseMode(s string) (unit.Mode, error) {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil {
		return 0, fmt.Errorf("mode %q is not an octal number", s)
	}
	mode := unit.Mode(n)
	switch {
	case mode == unit.ModeDir || mode == unit.ModeSymlink || mode == unit.ModeSubmodule:
		return mode, nil
	case mode>>12 == unit.ModeRegular>>12 && mode&0o100 != 0:
		return unit.ModeExecutable, nil
	case mode>>12 == unit.ModeRegular>>12:
		return unit.ModeRegular, nil
	default:
		return 0, fmt.Errorf("mode %q is unknown", s)
	}
}
