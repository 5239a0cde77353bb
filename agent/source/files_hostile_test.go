package source_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/agent/unit"
)

// meddler answers some requests for packs in the server's place.
func meddler(t *testing.T, s *gitServer, meddle func(body []byte) (answer []byte)) *httptest.Server {
	t.Helper()
	m := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if answer := meddle(body); answer != nil {
			_, _ = w.Write(answer)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(m.Close)
	return m
}

// packAnswer is a server's answer to fetch.
func packAnswer(pack []byte) []byte {
	out := []byte("000dpackfile\n")
	for len(pack) > 0 {
		n := min(len(pack), 60_000)
		out = append(fmt.Appendf(out, "%04x\x01", n+5), pack[:n]...)
		pack = pack[n:]
	}
	return append(out, "0000"...)
}

func TestServersThatSendOtherThanWhatWasAskedFor(t *testing.T) {
	for name, c := range map[string]struct {
		answer []byte
		want   string
	}{
		"another file":    {packAnswer(packOf(packed{kind: typeBlob, content: "other"})), "does not send file"},
		"nothing":         {packAnswer(packOf()), "does not send file"},
		"no pack":         {[]byte("0000"), "sends no pack"},
		"a bomb":          {packAnswer(packOf(packed{kind: typeBlob, content: strings.Repeat("\x00", 17<<20)})), ""},
		"another section": {[]byte("0010wanted-refs\n0000"), "not asked for: wanted-refs"},
		"an error":        {[]byte("0010ERR go away!"), "go away!"},
		"garbage":         {[]byte("<html>"), "not Git's"},
		"half":            {packAnswer(packOf(packed{kind: typeBlob, content: "other"}))[:40], "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newLargeServer(t, 1)
			m := meddler(t, s, func(body []byte) []byte {
				if bytes.Contains(body, []byte("command=fetch")) && !bytes.Contains(body, []byte("deepen")) {
					return c.answer
				}
				return nil
			})
			r := s.open(source.Blobless, func(cfg *source.Config) { cfg.URL = m.URL + "/fleet.git" })
			err := tryRead(t, fetch(t, r), "apps/app000/README.md")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if r.HeldFiles() != 0 {
				t.Error("something of it is kept")
			}
		})
	}
}

func TestAServerThatSendsMoreThanTheCommitIsRefused(t *testing.T) {
	commit := packed{kind: typeCommit, content: "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n\nempty\n"}
	tip := sha1.Sum(fmt.Appendf(nil, "commit %d\x00%s", len(commit.content), commit.content))
	for name, more := range map[string][]packed{
		"no more": nil, "a file": {{kind: typeBlob, content: "nobody asked for this"}}, "a commit": {{kind: typeCommit, content: commit.content + "!"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newLargeServer(t, 1)
			m := meddler(t, s, func(body []byte) []byte {
				switch {
				case bytes.Contains(body, []byte("deepen")):
					return packAnswer(packOf(append(more, commit, packed{kind: typeTree})...))
				case bytes.Contains(body, []byte("ls-refs")):
					return fmt.Appendf(nil, "003d%x refs/heads/main\n0000", tip)
				default:
					return nil
				}
			})
			_, err := s.open(source.Blobless, func(cfg *source.Config) { cfg.URL = m.URL + "/fleet.git" }).Fetch(t.Context())
			if more == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, "sends objects that were not asked for", "git fsck")
		})
	}
}

func TestReadingEndsWithItsCaller(t *testing.T) {
	s := newLargeServer(t, 1)
	stop := make(chan struct{})
	m := meddler(t, s, func(body []byte) []byte {
		if bytes.Contains(body, []byte("command=fetch")) && !bytes.Contains(body, []byte("deepen")) {
			<-stop
		}
		return nil
	})
	at := fetch(t, s.open(source.Blobless, func(cfg *source.Config) { cfg.URL = m.URL + "/fleet.git" }))
	e, _, err := unit.Lookup(t.Context(), at.Tree, at.Root, "apps/app000/README.md")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { _, err := at.Tree.Blob(ctx, e.Hash, 1000); done <- err }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(stop)
}
