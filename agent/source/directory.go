package source

import (
	"bytes"
	"context"
	"crypto/sha1" // it is what Git names objects with
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// localRef is the ref of a directory that was not fetched.
const localRef = "local"

// OpenDirectory reads a directory as Git would if all of it were committed now:
// .git and empty directories are left out, links stay links. Files are hashed
// at once and read from disk when they are asked for. Nothing is ignored:
// .gitignore has no effect.
func OpenDirectory(root string) (unit.Snapshot, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return unit.Snapshot{}, err
	}
	d := &directory{root: root, files: map[unit.Hash]diskFile{}, dirs: map[unit.Hash][]unit.TreeEntry{}}
	hash, err := d.scan("")
	if err != nil {
		return unit.Snapshot{}, fleet.WithHint(fmt.Errorf("read the directory: %w", err), "give a directory that you may read whole")
	}
	return unit.Snapshot{RepoURL: "file://" + filepath.ToSlash(root), Ref: localRef, Commit: hash.String(), Root: hash, Tree: d}, nil
}

// directory is written to only while it is scanned.
type directory struct {
	root  string
	files map[unit.Hash]diskFile
	dirs  map[unit.Hash][]unit.TreeEntry
}

type diskFile struct {
	path string // from the root
	size int64
	link bool
}

var _ unit.Tree = (*directory)(nil)

func (d *directory) scan(dir string) (unit.Hash, error) {
	names, err := os.ReadDir(filepath.Join(d.root, dir))
	if err != nil {
		return unit.Hash{}, err
	}
	var entries []unit.TreeEntry
	for _, n := range names {
		if n.Name() == ".git" {
			continue
		}
		e, kept, err := d.entry(filepath.Join(dir, n.Name()), n)
		if err != nil {
			return unit.Hash{}, err
		}
		if kept {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b unit.TreeEntry) int { return strings.Compare(sortName(a), sortName(b)) })
	h := hashTree(entries)
	d.dirs[h] = entries
	return h, nil
}

// entry reports false for what Git would not keep.
func (d *directory) entry(path string, n fs.DirEntry) (unit.TreeEntry, bool, error) {
	e := unit.TreeEntry{Name: n.Name()}
	var err error
	switch n.Type() {
	case fs.ModeDir:
		e.Mode = unit.ModeDir
		if e.Hash, err = d.scan(path); err != nil {
			return e, false, err
		}
		return e, len(d.dirs[e.Hash]) > 0, nil
	case fs.ModeSymlink:
		target, err := os.Readlink(filepath.Join(d.root, path))
		if err != nil {
			return e, false, err
		}
		e.Mode = unit.ModeSymlink
		e.Hash = hashBlob([]byte(target))
		d.files[e.Hash] = diskFile{path: path, size: int64(len(target)), link: true}
		return e, true, nil
	case 0:
		size, mode, hash, err := hashFile(filepath.Join(d.root, path))
		if err != nil {
			return e, false, err
		}
		e.Mode, e.Hash = mode, hash
		d.files[hash] = diskFile{path: path, size: size}
		return e, true, nil
	default: // sockets, devices
		return e, false, nil
	}
}

func (d *directory) Entries(ctx context.Context, dir unit.Hash) ([]unit.TreeEntry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entries, ok := d.dirs[dir]
	if !ok {
		return nil, fmt.Errorf("tree %s: %w", dir, errMissing)
	}
	return entries, nil
}

// Blob fails when the file is not what it was when it was hashed: a render
// would mix two states of the directory.
func (d *directory) Blob(ctx context.Context, file unit.Hash, limit int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, ok := d.files[file]
	if !ok {
		return nil, fmt.Errorf("blob %s: %w", file, errMissing)
	}
	if f.size > limit {
		return nil, fmt.Errorf("%s: %w", f.path, unit.ErrTooLarge)
	}
	content, err := d.read(f)
	if err != nil {
		return nil, err
	}
	if hashBlob(content) != file {
		return nil, fleet.WithHint(fmt.Errorf("%s changed while it was read", f.path), "run it again")
	}
	return content, nil
}

func (d *directory) read(f diskFile) ([]byte, error) {
	path := filepath.Join(d.root, f.path)
	if f.link {
		target, err := os.Readlink(path)
		return []byte(target), err
	}
	r, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, f.size+1))
}

func hashFile(path string) (int64, unit.Mode, unit.Hash, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, unit.Hash{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, 0, unit.Hash{}, err
	}
	mode := unit.ModeRegular
	if info.Mode()&0o100 != 0 {
		mode = unit.ModeExecutable
	}
	hash, err := hashObject("blob", info.Size(), f)
	if err != nil {
		return 0, 0, unit.Hash{}, fmt.Errorf("%s: %w", path, err)
	}
	return info.Size(), mode, hash, nil
}

func hashBlob(content []byte) unit.Hash {
	h, _ := hashObject("blob", int64(len(content)), bytes.NewReader(content)) // memory does not fail to be read
	return h
}

func hashTree(entries []unit.TreeEntry) unit.Hash {
	var content []byte
	for _, e := range entries {
		content = strconv.AppendUint(content, uint64(e.Mode), 8)
		content = append(append(content, ' '), e.Name...)
		content = append(append(content, 0), e.Hash[:]...)
	}
	h, _ := hashObject("tree", int64(len(content)), bytes.NewReader(content))
	return h
}

func hashObject(kind string, size int64, content io.Reader) (unit.Hash, error) {
	h := sha1.New()
	fmt.Fprintf(h, "%s %d\x00", kind, size)
	n, err := io.Copy(h, content)
	if err == nil && n != size {
		err = errors.New("it changed while it was read")
	}
	return unit.Hash(h.Sum(nil)), err
}

// sortName is what Git sorts a directory's entries by.
func sortName(e unit.TreeEntry) string {
	if e.Mode == unit.ModeDir {
		return e.Name + "/"
	}
	return e.Name
}
