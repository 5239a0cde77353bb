package fleet

import (
	"errors"
	"fmt"
)

// The kinds of failure a caller may act on; test with errors.Is. The API maps
// each to one HTTP status and pkg/client maps it back.
var (
	ErrInvalid     = errors.New("invalid")     // what was asked makes no sense: 400
	ErrForbidden   = errors.New("forbidden")   // who asked may not: 403
	ErrNotFound    = errors.New("not found")   // what was named is not there: 404
	ErrConflict    = errors.New("conflict")    // the state moved on, or forbids it: 409
	ErrUnavailable = errors.New("unavailable") // a part can't be reached just now: 503
	ErrTooOften    = errors.New("too often")   // it was asked too much in too short a time: 429
)

// Invalid makes an ErrInvalid whose text is the formatted one alone.
func Invalid(format string, a ...any) error { return newError(ErrInvalid, format, a) }

// NotFound makes an ErrNotFound.
func NotFound(format string, a ...any) error { return newError(ErrNotFound, format, a) }

// Conflict makes an ErrConflict.
func Conflict(format string, a ...any) error { return newError(ErrConflict, format, a) }

// Forbidden makes an ErrForbidden.
func Forbidden(format string, a ...any) error { return newError(ErrForbidden, format, a) }

// Unavailable makes an ErrUnavailable.
func Unavailable(format string, a ...any) error { return newError(ErrUnavailable, format, a) }

// TooOften makes an ErrTooOften.
func TooOften(format string, a ...any) error { return newError(ErrTooOften, format, a) }

func newError(kind error, format string, a []any) error {
	return &kindError{kind: kind, err: fmt.Errorf(format, a...)}
}

type kindError struct{ kind, err error }

func (e *kindError) Error() string   { return e.err.Error() }
func (e *kindError) Unwrap() []error { return []error{e.kind, e.err} }

// WithHint adds what to do about err. The hint is not part of Error(); Hint
// finds it through any wrapping.
func WithHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &hinted{err: err, hint: hint}
}

type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }

// Hint returns what the outermost WithHint of err says, or "".
func Hint(err error) string {
	if h, ok := errors.AsType[*hinted](err); ok {
		return h.hint
	}
	return ""
}
