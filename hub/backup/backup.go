// Package backup is the form in which a hub's state is taken elsewhere: its
// files (keys above all), and the documents of its store.
//
// A backup is a stream of JSON lines, compressed: a header, files, records, and
// an end that counts them and has the SHA-256 of all lines before it. What is
// cut short or altered is found out before any of it is used, if Read is called
// twice. It may be encrypted, with age.
package backup

import (
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"path/filepath"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const (
	// Format is what a header says it is.
	Format = "capstan-hub-backup"
	// Version of the format. A reader refuses what is newer.
	Version = 1

	// MaxFile is the most bytes a file may have, and MaxValue a record's value.
	MaxFile  = 4 << 20
	MaxValue = 1 << 20
	maxLine  = 6 << 20 // of a file of that size in base64
)

// Header says what a backup is.
type Header struct {
	Format   string    `json:"format"`
	Version  int       `json:"version"`
	Instance string    `json:"instance"` // the hub's id
	Hub      string    `json:"hub"`      // the version of the program that wrote it
	At       time.Time `json:"at"`
}

// File is one of the data directory.
type File struct {
	Name string `json:"name"` // below the directory, with slashes
	Data []byte `json:"data"`
}

// Record is a document of the store.
type Record struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	Value  []byte `json:"value"`
}

// Summary counts what a backup holds.
type Summary struct {
	Header  Header
	Files   int
	Records int
}

type end struct {
	Files   int    `json:"files"`
	Records int    `json:"records"`
	SHA256  string `json:"sha256"`
}

// line is one line: exactly one of its fields is set.
type line struct {
	Header *Header `json:"header,omitempty"`
	File   *File   `json:"file,omitempty"`
	Record *Record `json:"record,omitempty"`
	End    *end    `json:"end,omitempty"`
}

// Writer writes a backup.
type Writer struct {
	zip *gzip.Writer
	sum hash.Hash
	end end
}

// NewWriter begins a backup with its header, whose format and version are
// filled in.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	h.Format, h.Version = Format, Version
	b := &Writer{zip: gzip.NewWriter(w), sum: sha256.New()}
	return b, b.write(line{Header: &h})
}

func (b *Writer) write(l line) error {
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	data = append(data, '\n')
	b.sum.Write(data)
	_, err = b.zip.Write(data)
	return err
}

// File adds a file. The error is ErrInvalid where it is too large.
func (b *Writer) File(f File) error {
	if err := f.check(); err != nil {
		return err
	}
	b.end.Files++
	return b.write(line{File: &f})
}

// Record adds a document.
func (b *Writer) Record(r Record) error {
	if err := r.check(); err != nil {
		return err
	}
	b.end.Records++
	return b.write(line{Record: &r})
}

// Close writes the end. Without it nobody takes the backup for whole.
func (b *Writer) Close() error {
	e := b.end
	e.SHA256 = hex.EncodeToString(b.sum.Sum(nil))
	if err := b.write(line{End: &e}); err != nil {
		return err
	}
	return b.zip.Close()
}

func (f File) check() error {
	if len(f.Data) > MaxFile {
		return fleet.Invalid("file %q has more than %d bytes", f.Name, MaxFile)
	}
	if !filepath.IsLocal(f.Name) || path.Clean(f.Name) != f.Name || f.Name == "." {
		return fleet.Invalid("file name %q is not valid", f.Name)
	}
	return nil
}

func (r Record) check() error {
	if len(r.Value) == 0 || len(r.Value) > MaxValue || r.Bucket == "" || r.Key == "" {
		return fleet.Invalid("record %q of bucket %q is not valid", r.Key, r.Bucket)
	}
	return nil
}

// Into takes what is read. A nil function takes nothing.
type Into struct {
	File   func(File) error
	Record func(Record) error
}

// Read reads a backup to its end. Its error is ErrInvalid where the backup is
// not one, is damaged or is cut short; by then Into has had what came before.
func Read(r io.Reader, into Into) (Summary, error) {
	var out Summary
	zip, err := gzip.NewReader(r)
	if err != nil {
		return out, notOne(err)
	}
	defer zip.Close() //nolint:errcheck // it has no more to say
	in := bufio.NewReaderSize(zip, 64<<10)
	sum := sha256.New()
	for n := 0; ; n++ {
		text, err := readLine(in)
		if err != nil {
			return out, err
		}
		l, err := decode(text, n == 0)
		if err != nil {
			return out, err
		}
		switch {
		case l.Header != nil:
			out.Header = *l.Header
		case l.File != nil:
			out.Files++
			err = hand(into.File, *l.File)
		case l.Record != nil:
			out.Records++
			err = hand(into.Record, *l.Record)
		default:
			return out, finish(in, *l.End, out, hex.EncodeToString(sum.Sum(nil)))
		}
		if err != nil {
			return out, err
		}
		sum.Write(text)
	}
}

func hand[T any](to func(T) error, v T) error {
	if to == nil {
		return nil
	}
	return to(v)
}

// decode reads one line and checks its form.
func decode(text []byte, first bool) (line, error) {
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return l, damaged("a line can't be read")
	}
	set := 0
	for _, there := range []bool{l.Header != nil, l.File != nil, l.Record != nil, l.End != nil} {
		if there {
			set++
		}
	}
	if set != 1 || first != (l.Header != nil) {
		return l, damaged("its lines are not in order")
	}
	switch {
	case l.Header != nil:
		return l, l.Header.check()
	case l.File != nil:
		return l, l.File.check()
	case l.Record != nil:
		return l, l.Record.check()
	}
	return l, nil
}

func (h Header) check() error {
	if h.Format != Format {
		return notOne(fmt.Errorf("it says it is %q", h.Format))
	}
	if h.Version > Version {
		return fleet.WithHint(fleet.Invalid("the backup is of version %d, this program knows version %d", h.Version, Version), "restore it with a newer capstan-hub")
	}
	if h.Version < 1 {
		return damaged("its version makes no sense")
	}
	return fleet.ValidateName("hub instance", h.Instance)
}

func finish(in *bufio.Reader, e end, s Summary, sum string) error {
	if e.SHA256 != sum || e.Files != s.Files || e.Records != s.Records {
		return damaged("its checksum is wrong")
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		return damaged("something comes after its end")
	}
	return nil
}

// readLine reads a line with its end, within bounds.
func readLine(in *bufio.Reader) ([]byte, error) {
	var out []byte
	for {
		part, err := in.ReadSlice('\n')
		if out = append(out, part...); len(out) > maxLine {
			return nil, damaged("a line is too long")
		}
		switch {
		case err == nil:
			return out, nil
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil, damaged("it is cut short")
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, damaged(err.Error())
		}
	}
}

func damaged(how string) error {
	return fleet.WithHint(fleet.Invalid("the backup is damaged: %s", how), "nothing of it was used; take another one")
}

func notOne(err error) error {
	return fleet.WithHint(fleet.Invalid("this is no backup of a hub: %w", err), "an encrypted one needs --identity-file or --passphrase-file")
}
