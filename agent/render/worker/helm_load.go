package worker

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"helm.sh/helm/v4/pkg/chart/loader/archive"
	"helm.sh/helm/v4/pkg/ignore"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// Bounds of one chart, with all that is packed in it.
const (
	maxChartBytes = 32 << 20 // inflated
	maxChartFiles = 10_000
	maxPacked     = 8 // archives in archives
)

var byteOrderMark = []byte{0xEF, 0xBB, 0xBF}

// chartFiles reads a chart's directory as Helm would read a checkout's.
func (f *treeFS) chartFiles(dir string) ([]*archive.BufferedFile, error) {
	there, err := f.hasFile(dir, chartFile)
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, &failure{file: dir, message: path.Join(dir, chartFile) + " is not in the repository", hint: "spec.source.helm is for a path with a chart; name the chart's directory, or take helm away"}
	}
	rules := ignore.Empty()
	if there, err = f.hasFile(dir, ignore.HelmIgnore); err != nil {
		return nil, err
	}
	if there {
		content, err := f.ReadFile(path.Join(mount, dir, ignore.HelmIgnore))
		if err != nil {
			return nil, err
		}
		if rules, err = ignore.Parse(bytes.NewReader(content)); err != nil {
			return nil, &failure{file: path.Join(dir, ignore.HelmIgnore), message: path.Join(dir, ignore.HelmIgnore) + ": " + f.oneLine(err.Error())}
		}
	}
	rules.AddDefaults()
	l := chartLoad{fs: f, top: dir, rules: rules}
	if err := l.directory("", 0); err != nil {
		return nil, err
	}
	return unpackAll(dir, l.files)
}

func isValues(file *archive.BufferedFile) bool { return file.Name == "values.yaml" }

type chartLoad struct {
	fs    *treeFS
	top   string
	rules *ignore.Rules
	files []*archive.BufferedFile
}

func (l *chartLoad) directory(below string, depth int) error {
	if depth > maxDepth {
		return &failure{file: l.top, message: fmt.Sprintf("%s: directories are nested more than %d deep", l.top, maxDepth), hint: "look for a link to a directory that it stands in"}
	}
	_, entries, err := l.fs.list(path.Join(mount, l.top, below))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := l.entry(path.Join(below, e.Name), e, depth); err != nil {
			return err
		}
	}
	return nil
}

// entry takes a file, or a directory's files. Links are followed, as Helm does.
func (l *chartLoad) entry(name string, e unit.TreeEntry, depth int) error {
	whole := path.Join(l.top, name)
	if e.Mode == unit.ModeSymlink {
		at, target, err := l.fs.resolve(path.Join(mount, whole))
		if err != nil {
			return &failure{file: whole, message: whole + ": the symbolic link points nowhere", hint: "mend the link, or take it away"}
		}
		l.fs.noteFound(at, target)
		e.Mode = target.Mode
	}
	if l.rules.Ignore(name, info{e}) {
		return nil
	}
	switch e.Mode {
	case unit.ModeDir:
		return l.directory(name, depth+1)
	case unit.ModeSubmodule:
		return submodule(whole)
	}
	content, err := l.fs.ReadFile(path.Join(mount, whole))
	if err != nil {
		return err
	}
	if len(l.files) >= maxChartFiles {
		return &failure{file: l.top, message: fmt.Sprintf("%s: the chart has more than %d files", l.top, maxChartFiles), hint: "leave files out with .helmignore"}
	}
	l.files = append(l.files, &archive.BufferedFile{Name: name, Data: bytes.TrimPrefix(content, byteOrderMark)})
	return nil
}

// unpackAll puts packed subcharts beside the others, so that one set of bounds
// holds for everything, and Helm opens no archive.
func unpackAll(where string, files []*archive.BufferedFile) ([]*archive.BufferedFile, error) {
	u := unpacking{where: where, bytes: maxChartBytes, entries: maxChartFiles}
	return u.all(files, 0)
}

// unpacking is what is left of a chart's bounds.
type unpacking struct {
	where   string
	bytes   int64
	entries int
}

func (u *unpacking) fail(name, message string) error {
	return &failure{file: u.where, message: path.Join(u.where, name) + ": " + message, hint: "pack the chart anew with helm package"}
}

// all replaces each charts/x.tgz by what is in it.
func (u *unpacking) all(files []*archive.BufferedFile, depth int) ([]*archive.BufferedFile, error) {
	if depth > maxPacked {
		return nil, u.fail("", fmt.Sprintf("charts are packed in charts more than %d deep", maxPacked))
	}
	var out []*archive.BufferedFile
	for _, file := range files {
		dir, base := path.Split(file.Name)
		if dir != "charts/" || path.Ext(base) != ".tgz" || strings.IndexAny(base, "_.") == 0 {
			out = append(out, file)
			continue
		}
		inside, err := u.archive(file.Name, file.Data)
		if err == nil {
			inside, err = u.all(inside, depth+1)
		}
		if err != nil {
			return nil, err
		}
		for _, in := range inside {
			in.Name = dir + base + ".d/" + in.Name // the name of a directory there means nothing
		}
		out = append(out, inside...)
	}
	return out, nil
}

// archive reads a packed chart. Names are without the directory they all stand in.
func (u *unpacking) archive(name string, data []byte) ([]*archive.BufferedFile, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, u.fail(name, "not a packed chart: "+err.Error())
	}
	var files []*archive.BufferedFile
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, u.fail(name, "the archive is damaged or cut short: "+err.Error())
		}
		if u.entries--; u.entries < 0 {
			return nil, u.fail(name, fmt.Sprintf("the chart has more than %d files", maxChartFiles))
		}
		switch h.Typeflag {
		case tar.TypeDir, tar.TypeXGlobalHeader:
			continue
		case tar.TypeReg:
		default:
			return nil, u.fail(name, fmt.Sprintf("%q is a link or a device, which no packed chart may hold", h.Name))
		}
		inside, ok := chartName(h.Name)
		if !ok {
			return nil, u.fail(name, fmt.Sprintf("%q is not a path inside a chart", h.Name))
		}
		content, err := u.read(name, t)
		if err != nil {
			return nil, err
		}
		files = append(files, &archive.BufferedFile{Name: inside, Data: bytes.TrimPrefix(content, byteOrderMark)})
	}
	if len(files) == 0 {
		return nil, u.fail(name, "the archive is empty")
	}
	return files, nil
}

func (u *unpacking) read(name string, r io.Reader) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(r, u.bytes+1))
	if err != nil {
		return nil, u.fail(name, "the archive is damaged or cut short: "+err.Error())
	}
	if u.bytes -= int64(len(content)); u.bytes < 0 {
		return nil, u.fail(name, fmt.Sprintf("the chart is over %d MiB unpacked", maxChartBytes>>20))
	}
	return content, nil
}

// chartName takes the chart's own directory off a name in an archive.
func chartName(name string) (string, bool) {
	if strings.ContainsAny(name, "\\\x00") || path.IsAbs(name) {
		return "", false
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", false
		}
	}
	_, inside, found := strings.Cut(path.Clean(name), "/")
	return inside, found && inside != ""
}
