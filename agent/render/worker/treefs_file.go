package worker

import (
	"bytes"
	"fmt"
	"io/fs"
	"time"

	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/capstan-gitops/capstan/agent/unit"
)

var errReadOnly = fmt.Errorf("the repository is read only: %w", fs.ErrPermission)

func (*treeFS) Create(string) (filesys.File, error) { return nil, errReadOnly }
func (*treeFS) Mkdir(string) error                  { return errReadOnly }
func (*treeFS) MkdirAll(string) error               { return errReadOnly }
func (*treeFS) RemoveAll(string) error              { return errReadOnly }
func (*treeFS) WriteFile(string, []byte) error      { return errReadOnly }

type file struct {
	*bytes.Reader
	info info
}

func (file) Close() error                 { return nil }
func (file) Write([]byte) (int, error)    { return 0, errReadOnly }
func (f file) Stat() (fs.FileInfo, error) { return f.info, nil }

type info struct{ e unit.TreeEntry }

func (i info) Name() string       { return i.e.Name }
func (i info) Size() int64        { return 0 }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.e.Mode == unit.ModeDir }
func (i info) Sys() any           { return nil }

func (i info) Mode() fs.FileMode {
	if i.IsDir() {
		return fs.ModeDir | 0o555
	}
	return 0o444
}
