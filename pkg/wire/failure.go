package wire

import (
	"errors"
	"strings"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Failure takes the place of any answer: why there is none.
type Failure struct {
	Code string `json:"code"`
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`
}

func (Failure) Kind() Kind      { return "failure" }
func (Failure) Limit() int      { return failureLimit }
func (Failure) Validate() error { return nil }

var codes = []struct {
	code string
	kind error
}{
	{"invalid", fleet.ErrInvalid},
	{"forbidden", fleet.ErrForbidden},
	{"not-found", fleet.ErrNotFound},
	{"conflict", fleet.ErrConflict},
	{"unavailable", fleet.ErrUnavailable},
}

// Fail says an error to the other side. One that is none of the fleet's kinds
// is the side's own trouble and is not spelled out.
func Fail(err error) Failure {
	for _, c := range codes {
		if errors.Is(err, c.kind) {
			return Failure{Code: c.code, Text: cut(err.Error(), 900), Hint: cut(fleet.Hint(err), 300)}
		}
	}
	return Failure{Code: "unavailable", Text: "it failed at the other side"}
}

// Err is the failure as an error of the fleet's kinds.
func (f Failure) Err() error {
	of := fleet.Unavailable
	switch f.Code {
	case "invalid":
		of = fleet.Invalid
	case "forbidden":
		of = fleet.Forbidden
	case "not-found":
		of = fleet.NotFound
	case "conflict":
		of = fleet.Conflict
	}
	err := of("%s", f.Text)
	if f.Hint != "" {
		err = fleet.WithHint(err, f.Hint)
	}
	return err
}

// cut shortens to at most n bytes, at a character's edge.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}
