package backup_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/capstan-gitops/capstan/hub/backup"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

var (
	header  = backup.Header{Instance: "hub1", Hub: "v1", At: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}
	files   = []backup.File{{Name: "instance", Data: []byte("hub1\n")}, {Name: "keys/hub.nk", Data: []byte("seed")}}
	records = []backup.Record{{Bucket: "intent", Key: "dev", Value: []byte("{}")}, {Bucket: "audit", Key: "fleet", Value: bytes.Repeat([]byte("x"), 300<<10)}}
)

func written(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := backup.NewWriter(&out, header)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := w.File(f); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range records {
		if err := w.Record(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	var gotFiles []backup.File
	var gotRecords []backup.Record
	sum, err := backup.Read(bytes.NewReader(written(t)), backup.Into{
		File:   func(f backup.File) error { gotFiles = append(gotFiles, f); return nil },
		Record: func(r backup.Record) error { gotRecords = append(gotRecords, r); return nil },
	})
	if err != nil || !reflect.DeepEqual(gotFiles, files) || !reflect.DeepEqual(gotRecords, records) {
		t.Errorf("got %v, %v, %v", gotFiles, len(gotRecords), err)
	}
	if sum.Header.Instance != "hub1" || !sum.Header.At.Equal(header.At) || sum.Files != 2 || sum.Records != 2 {
		t.Errorf("got %+v", sum)
	}
}

func unzip(t *testing.T, data []byte) string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func zip(text string) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	io.WriteString(z, text)
	z.Close()
	return out.Bytes()
}

func TestWhatIsDamagedIsRefused(t *testing.T) {
	whole := written(t)
	text := unzip(t, whole)
	lines := strings.SplitAfter(text, "\n")
	lines = lines[:len(lines)-1]
	bad := map[string][]byte{
		"nothing":         nil,
		"no backup":       []byte("hello, this is no backup at all"),
		"another file":    zip("hello\n"),
		"newer":           zip(strings.Replace(text, `"version":1`, `"version":2`, 1)),
		"older than one":  zip(strings.Replace(text, `"version":1`, `"version":0`, 1)),
		"another format":  zip(strings.Replace(text, backup.Format, "other", 1)),
		"a byte less":     whole[:len(whole)-1],
		"altered":         zip(strings.Replace(text, `"dev"`, `"prd"`, 1)),
		"no end":          zip(strings.Join(lines[:len(lines)-1], "")),
		"a line less":     zip(lines[0] + lines[1] + lines[3] + lines[4] + lines[5]),
		"two headers":     zip(lines[0] + text),
		"no header":       zip(strings.Join(lines[1:], "")),
		"something after": zip(text + "{}\n"),
		"a file outside":  zip(strings.Replace(text, "keys/hub.nk", "../hub.nk", 1)),
		"a file anywhere": zip(strings.Replace(text, "keys/hub.nk", "/etc/hub.nk", 1)),
		"an odd name":     zip(strings.Replace(text, "keys/hub.nk", "keys//hub.nk", 1)),
		"an odd instance": zip(strings.Replace(text, `"hub1"`, `"Hub 1"`, 1)),
		"two in one":      zip(strings.Replace(text, `{"file"`, `{"record":{"bucket":"a","key":"b","value":"eA=="},"file"`, 1)),
		"a long line":     zip(lines[0] + `{"file":{"name":"` + strings.Repeat("x", 7<<20)),
	}
	for i := range lines {
		bad[fmt.Sprintf("cut after %d lines", i)] = zip(strings.Join(lines[:i], ""))
	}
	for name, data := range bad {
		_, err := backup.Read(bytes.NewReader(data), backup.Into{})
		if !errors.Is(err, fleet.ErrInvalid) || fleet.Hint(err) == "" && !strings.Contains(name, "odd") && !strings.Contains(name, "a file") {
			t.Errorf("%s: got %v, hint %q", name, err, fleet.Hint(err))
		}
	}
}

func TestWhatIsTooLargeIsNotWritten(t *testing.T) {
	w, err := backup.NewWriter(io.Discard, header)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.File(backup.File{Name: "a", Data: make([]byte, backup.MaxFile+1)}); !errors.Is(err, fleet.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if err := w.File(backup.File{Name: "a", Data: make([]byte, backup.MaxFile)}); err != nil {
		t.Errorf("the largest file: %v", err)
	}
}

func file(t *testing.T, text string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestASealedBackupOpensForThoseItIsFor(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	data := written(t)
	phrase := file(t, "correct horse battery\n")
	for name, c := range map[string]struct {
		seal, open backup.Sealing
		good       bool
	}{
		"not sealed":     {backup.Sealing{}, backup.Sealing{}, true},
		"for a key":      {backup.Sealing{Recipients: []string{id.Recipient().String()}}, backup.Sealing{IdentityFile: file(t, id.String())}, true},
		"another key":    {backup.Sealing{Recipients: []string{id.Recipient().String()}}, backup.Sealing{IdentityFile: file(t, stranger.String())}, false},
		"no key":         {backup.Sealing{Recipients: []string{id.Recipient().String()}}, backup.Sealing{}, false},
		"broken key":     {backup.Sealing{Recipients: []string{id.Recipient().String()}}, backup.Sealing{IdentityFile: file(t, "AGE-SECRET-KEY-s3cret")}, false},
		"a passphrase":   {backup.Sealing{PassphraseFile: phrase}, backup.Sealing{PassphraseFile: phrase}, true},
		"another phrase": {backup.Sealing{PassphraseFile: phrase}, backup.Sealing{PassphraseFile: file(t, "incorrect horse battery")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var sealed bytes.Buffer
			w, err := c.seal.Seal(&sealed)
			if err != nil {
				t.Fatal(err)
			}
			w.Write(data)
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if c.seal.Sealed() && bytes.Contains(sealed.Bytes(), data[:64]) {
				t.Error("it can be read by anybody")
			}
			r, err := c.open.Open(&sealed)
			if err == nil {
				_, err = backup.Read(r, backup.Into{})
			}
			if (err == nil) != c.good || err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("got %v", err)
			}
		})
	}
	for name, s := range map[string]backup.Sealing{
		"no recipient": {Recipients: []string{"ssh-ed25519 AAAA"}},
		"both":         {Recipients: []string{id.Recipient().String()}, PassphraseFile: phrase},
		"a short one":  {PassphraseFile: file(t, "short")},
	} {
		if _, err := s.Seal(io.Discard); !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	whole := written(f)
	f.Add(whole)
	f.Add(zip(`{"header":{"format":"capstan-hub-backup","version":1,"instance":"a"}}` + "\n" + `{"end":{}}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := backup.Read(bytes.NewReader(data), backup.Into{File: func(f backup.File) error {
			if !filepath.IsLocal(f.Name) {
				t.Errorf("a file outside: %q", f.Name)
			}
			return nil
		}})
		if err != nil && !errors.Is(err, fleet.ErrInvalid) {
			t.Errorf("got %v", err)
		}
	})
}
