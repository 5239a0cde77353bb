package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// statuses are HTTP's words for the fleet's kinds of errors. The first of a
// status is what a client makes of it again.
var statuses = []struct {
	kind   error
	status int
	make   func(format string, a ...any) error
}{
	{fleet.ErrInvalid, http.StatusBadRequest, fleet.Invalid},
	{fleet.ErrForbidden, http.StatusForbidden, fleet.Forbidden},
	{fleet.ErrNotFound, http.StatusNotFound, fleet.NotFound},
	{fleet.ErrConflict, http.StatusConflict, fleet.Conflict},
	{fleet.ErrTooOften, http.StatusTooManyRequests, fleet.TooOften},
	{fleet.ErrUnavailable, http.StatusServiceUnavailable, fleet.Unavailable},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, fleet.Unavailable},
	{context.Canceled, http.StatusServiceUnavailable, fleet.Unavailable}, // the hub ends, or nobody reads this
}

// StatusOf is the status with which a hub answers an error: 500 for one that is
// none of the fleet's kinds.
func StatusOf(err error) int {
	for _, s := range statuses {
		if errors.Is(err, s.kind) {
			return s.status
		}
	}
	return http.StatusInternalServerError
}

// StatusOfCredential is StatusOf for a credential that was not accepted.
func StatusOfCredential(err error) int {
	if errors.Is(err, fleet.ErrForbidden) {
		return http.StatusUnauthorized
	}
	return StatusOf(err)
}

// kindOf makes the errors that a status stands for.
func kindOf(status int) func(string, ...any) error {
	for _, s := range statuses {
		if s.status == status {
			return s.make
		}
	}
	switch {
	case status == http.StatusUnauthorized:
		return fleet.Forbidden
	case status/100 == 4:
		return fleet.Invalid
	}
	return fmt.Errorf
}
