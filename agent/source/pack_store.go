package source

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/storer"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// unpack adds a pack's objects to those at hand, which deltas may build on.
// Neither map is written to afterwards.
func unpack(pack []byte, base objects) (all objects, err error) {
	if all, err = unpackAlone(pack, base); err != nil {
		return nil, err
	}
	maps.Copy(all, base)
	return all, nil
}

// unpackAlone gives the pack's objects without those at hand. The parser has
// panicked on malformed packs before; one repository's damage must not end the
// agent.
func unpackAlone(pack []byte, base objects) (added objects, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("pack: it is malformed: %v", p)
		}
	}()
	store := newPackStore(base)
	parser, err := packfile.NewParserWithStorage(packfile.NewScanner(bytes.NewReader(pack)), store)
	if err != nil {
		return nil, err
	}
	if _, err := parser.Parse(); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	return store.added, nil
}

// packStore is the storage go-git's pack parser writes to.
type packStore struct {
	base    objects // of the snapshot before: only read
	added   objects
	deflate *zlib.Writer
	buf     bytes.Buffer
}

var _ storer.EncodedObjectStorer = (*packStore)(nil)

func newPackStore(base objects) *packStore {
	return &packStore{base: base, added: objects{}, deflate: zlib.NewWriter(io.Discard)}
}

func (s *packStore) lookup(h plumbing.Hash) (object, bool) {
	if o, ok := s.added[unit.Hash(h)]; ok {
		return o, true
	}
	o, ok := s.base[unit.Hash(h)]
	return o, ok
}

func (s *packStore) NewEncodedObject() plumbing.EncodedObject { return &plumbing.MemoryObject{} }

// SetEncodedObject names the object by what it holds, whatever the server
// calls it.
func (s *packStore) SetEncodedObject(o plumbing.EncodedObject) (plumbing.Hash, error) {
	h := o.Hash()
	if _, ok := s.lookup(h); ok {
		return h, nil
	}
	r, err := o.Reader()
	if err != nil {
		return plumbing.ZeroHash, err
	}
	defer r.Close()
	s.buf.Reset()
	s.deflate.Reset(&s.buf)
	n, err := io.Copy(s.deflate, r)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	if err := s.deflate.Close(); err != nil {
		return plumbing.ZeroHash, err
	}
	s.added[unit.Hash(h)] = object{kind: o.Type(), size: n, packed: bytes.Clone(s.buf.Bytes())}
	return h, nil
}

func (s *packStore) EncodedObject(kind plumbing.ObjectType, h plumbing.Hash) (plumbing.EncodedObject, error) {
	o, ok := s.lookup(h)
	if !ok || kind != plumbing.AnyObject && kind != o.kind {
		return nil, plumbing.ErrObjectNotFound
	}
	content, err := o.inflate()
	if err != nil {
		return nil, err
	}
	m := &plumbing.MemoryObject{}
	m.SetType(o.kind)
	_, err = m.Write(content)
	return m, err
}

func (s *packStore) HasEncodedObject(h plumbing.Hash) error {
	if _, ok := s.lookup(h); !ok {
		return plumbing.ErrObjectNotFound
	}
	return nil
}

func (s *packStore) EncodedObjectSize(h plumbing.Hash) (int64, error) {
	o, ok := s.lookup(h)
	if !ok {
		return 0, plumbing.ErrObjectNotFound
	}
	return o.size, nil
}

// The parser neither lists objects nor borrows another repository's.
var errNotForPacks = errors.New("not supported while a pack is read")

func (s *packStore) IterEncodedObjects(plumbing.ObjectType) (storer.EncodedObjectIter, error) {
	return nil, errNotForPacks
}

func (s *packStore) AddAlternate(string) error { return errNotForPacks }
