package source

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// object is one Git object. The bytes are never written to once it is stored,
// so snapshots share them.
type object struct {
	kind   plumbing.ObjectType
	size   int64  // inflated
	packed []byte // zlib
}

// inflaters are kept: one is 40 KB, and a fetch reads every directory.
var inflaters sync.Pool

// inflate gives the object's content. The size was checked when it was stored.
func (o object) inflate() ([]byte, error) {
	z, ok := inflaters.Get().(io.Reader)
	var err error
	if ok {
		err = z.(zlib.Resetter).Reset(bytes.NewReader(o.packed), nil)
	} else {
		z, err = zlib.NewReader(bytes.NewReader(o.packed))
	}
	if err != nil {
		return nil, err
	}
	defer inflaters.Put(z)
	content := make([]byte, o.size)
	_, err = io.ReadFull(z, content)
	return content, err
}

// objects are all objects of one snapshot. Nothing writes to the map once the
// snapshot is handed out.
type objects map[unit.Hash]object

func (o objects) read(kind plumbing.ObjectType, h unit.Hash) ([]byte, error) {
	found, ok := o[h]
	if !ok {
		return nil, fmt.Errorf("%s %s: %w", kind, h, errMissing)
	}
	if found.kind != kind {
		return nil, fmt.Errorf("%s is a %s, not a %s", h, found.kind, kind)
	}
	content, err := found.inflate()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", kind, h, err)
	}
	return content, nil
}

var errMissing = errors.New("the object is missing")

func (o objects) hasAll(names []unit.Hash) bool {
	for _, h := range names {
		if _, ok := o[h]; !ok {
			return false
		}
	}
	return true
}

// maxTags bounds tags of tags.
const maxTags = 8

// peel follows annotated tags to the commit.
func (o objects) peel(tip unit.Hash) (unit.Hash, error) {
	for range maxTags {
		if found, ok := o[tip]; !ok || found.kind != plumbing.TagObject {
			return tip, nil // whether it is a commit is found out when it is read
		}
		content, err := o.read(plumbing.TagObject, tip)
		if err != nil {
			return unit.Hash{}, err
		}
		of, kind, err := parseTag(content)
		if err != nil {
			return unit.Hash{}, fmt.Errorf("tag %s: %w", tip, err)
		}
		if kind != "commit" && kind != "tag" {
			return unit.Hash{}, fmt.Errorf("tag %s is of a %s, not of a commit", tip, plain(kind))
		}
		tip = of
	}
	return unit.Hash{}, fmt.Errorf("tag %s: more than %d tags lead to its commit", tip, maxTags)
}

// within checks what many small fetches, each within the limits, add up to.
func (o objects) within(limits Limits) error {
	if len(o) > int(limits.Objects) {
		return fmt.Errorf("%w: %d objects, at most %d are read", errLimit, len(o), limits.Objects)
	}
	var total int64
	for _, each := range o {
		total += each.size
	}
	if total > limits.TotalBytes {
		return fmt.Errorf("%w: %d bytes in all, at most %d are read", errLimit, total, limits.TotalBytes)
	}
	return nil
}
