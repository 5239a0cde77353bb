package source

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// bundleHeader is what stands before the pack in a bundle.
type bundleHeader struct {
	refs  references
	needs []unit.Hash // commits that must be at hand; none: all is in it
	size  int64
}

const (
	maxBundleLine  = 4 << 10
	maxBundleLines = 200_000
)

// parseBundleHeader reads up to the pack. The reader's buffer bounds a line.
func parseBundleHeader(r *bufio.Reader) (bundleHeader, error) {
	b := bundleHeader{refs: references{}}
	line, err := b.line(r)
	if err != nil || line != "# v2 git bundle" && line != "# v3 git bundle" {
		return b, errors.New("it is not a Git bundle")
	}
	v3 := line == "# v3 git bundle"
	for range maxBundleLines {
		line, err := b.line(r)
		switch {
		case err != nil:
			return b, fmt.Errorf("its header is cut short or malformed: %w", noEOF(err))
		case line == "":
			return b, nil
		case line[0] == '@':
			if !v3 || line != "@object-format=sha1" {
				return b, fmt.Errorf("it asks for %q, which is not supported", plain(line))
			}
		case line[0] == '-':
			name, _, _ := bytes.Cut([]byte(line[1:]), []byte(" "))
			h, err := unit.ParseHash(string(name))
			if err != nil {
				return b, fmt.Errorf("its header is malformed: what it builds on: %w", err)
			}
			b.needs = append(b.needs, h)
		default:
			name, ref, ok := bytes.Cut([]byte(line), []byte(" "))
			h, err := unit.ParseHash(string(name))
			if err != nil || !ok || len(ref) == 0 {
				return b, errors.New("its header is malformed: a reference")
			}
			b.refs[string(ref)] = h
		}
	}
	return b, fmt.Errorf("%w: its header has more than %d lines", errLimit, maxBundleLines)
}

func (b *bundleHeader) line(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	b.size += int64(len(line))
	return string(line[:len(line)-1]), nil
}
