package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/capstan-gitops/capstan/pkg/client"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// decode reads a body that is one JSON value of v's form and nothing else.
func decode(r *http.Request, v any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return fleet.Invalid("the body must be of type application/json")
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return badBody(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fleet.Invalid("the body holds more than one JSON value")
	}
	return nil
}

func badBody(err error) error {
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fleet.Invalid("the body is larger than %d bytes", large.Limit)
	}
	return fleet.Invalid("the body can't be read: %w", err)
}

// answer writes v as JSON. Nothing is escaped for HTML: the bytes of a plan are
// signed and must arrive as they are.
func (s *server) answer(w http.ResponseWriter, r *http.Request, rt route, v any) {
	if v == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	body, err := rt.body(r, v)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if r.Method == http.MethodGet {
		sum := sha256.Sum256(body)
		tag := `"` + hex.EncodeToString(sum[:16]) + `"`
		w.Header().Set("ETag", tag)
		if has(r.Header.Values("If-None-Match"), tag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	s.write(w, r, body)
}

// body is an answer as JSON, with the fields that were asked for.
func (rt route) body(r *http.Request, v any) ([]byte, error) {
	body, err := encode(v)
	if fields := r.URL.Query().Get("fields"); err == nil && fields != "" {
		return selected(body, fields, rt.out)
	}
	return body, err
}

// has tells whether one of the tags is tag, or any.
func has(tags []string, tag string) bool {
	for _, line := range tags {
		for t := range strings.SplitSeq(line, ",") {
			if t = strings.TrimSpace(t); t == "*" || strings.TrimPrefix(t, "W/") == tag {
				return true
			}
		}
	}
	return false
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}

func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	s.failAs(w, r, client.StatusOf(err), err)
}

// failAs answers with a problem.
func (s *server) failAs(w http.ResponseWriter, r *http.Request, status int, err error) {
	b := s.problem(r, status, err)
	if status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Content-Type", client.ProblemType)
	w.WriteHeader(status)
	s.write(w, r, b)
}

// problem says what went wrong. What is none of the fleet's kinds is logged
// here and not told: it may hold what is the hub's own business.
func (s *server) problem(r *http.Request, status int, err error) []byte {
	p := client.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: err.Error(), Hint: fleet.Hint(err)}
	if status >= http.StatusInternalServerError && r.Context().Err() == nil {
		s.Log.ErrorContext(r.Context(), "request failed",
			"method", r.Method, "path", r.URL.Path, "actor", fleet.Actor(r.Context()), "error", err)
	}
	if status == http.StatusInternalServerError {
		p.Detail, p.Hint = "the hub failed at this", "the hub's log says why"
	}
	b, err := json.Marshal(p)
	if err != nil {
		b = []byte(`{"status":500,"detail":"the hub failed at this"}`)
	}
	return append(b, '\n')
}

func (s *server) write(w http.ResponseWriter, r *http.Request, b []byte) {
	if _, err := w.Write(b); err != nil {
		s.Log.DebugContext(r.Context(), "answer not delivered", "path", r.URL.Path, "error", err)
	}
}
