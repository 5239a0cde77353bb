package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// spot is a place with what is remembered of it.
type spot struct {
	place  place
	url    string
	mirror bool

	failures int       // in a row
	err      error     // of the last one
	retry    time.Time // until then the others are asked first
	reached  time.Time // when it last answered
	behind   lag       // when it was last asked
}

// lag is an older revision that a mirror has.
type lag struct {
	tip, of unit.Hash
	has     string
}

const (
	firstRetry = 30 * time.Second
	lastRetry  = 10 * time.Minute
)

// met remembers how it went.
func (s *spot) met(err error, now time.Time) {
	if err == nil {
		s.failures, s.err, s.retry, s.reached = 0, nil, time.Time{}, now
		return
	}
	s.failures++
	s.err = err
	s.retry = now.Add(min(firstRetry<<min(s.failures-1, 10), lastRetry))
}

func (s *spot) named(err error) error {
	what := "repository"
	if s.mirror {
		what = "mirror"
	}
	return fleet.WithHint(fmt.Errorf("%s %s: %w", what, s.url, err), fleet.Hint(err))
}

// failing tells whether the repository itself could not be read when it was last
// asked, and when it last could. It is for who fetches.
func (r *Repository) failing() (bool, time.Time) {
	if own := r.spots[0]; own.err != nil {
		return true, own.reached.UTC()
	}
	return false, time.Time{}
}

// reached is when the repository itself last answered; zero: it never did. It is
// for who fetches.
func (r *Repository) reached() time.Time { return r.spots[0].reached }

// inOrder is as configured, but for those that failed lately: they come last. A
// clock that was set back does not keep one there for longer than it should be.
func (r *Repository) inOrder() []*spot {
	now := r.now()
	var ready, later []*spot
	for _, s := range r.spots {
		if wait := s.retry.Sub(now); wait > 0 && wait <= lastRetry {
			later = append(later, s)
		} else {
			ready = append(ready, s)
		}
	}
	return slices.Concat(ready, later)
}

// joined names the places as they are configured, whichever was asked first, so
// that the text stays the same. It has the first hint: the others are there for
// when that one fails.
func (r *Repository) joined(failures map[*spot]error) error {
	var all []error
	var text []string
	for _, s := range r.spots {
		if err, ok := failures[s]; ok {
			all = append(all, s.named(err))
			text = append(text, s.named(err).Error())
		}
	}
	return fleet.WithHint(&allFailed{text: strings.Join(text, "; "), errs: all}, fleet.Hint(all[0]))
}

// allFailed is errors.Join on one line.
type allFailed struct {
	text string
	errs []error
}

func (e *allFailed) Error() string   { return e.text }
func (e *allFailed) Unwrap() []error { return e.errs }

// notice says what is wrong although there is a snapshot; "" is the normal case.
// It stays the same while nothing changes.
func (r *Repository) notice() string {
	var said []string
	for _, s := range r.spots {
		switch {
		case s.err != nil:
			last := "it was not reached yet"
			if !s.reached.IsZero() {
				last = "it was last reached at " + s.reached.UTC().Format(time.RFC3339)
			}
			said = append(said, fmt.Sprintf("%v (%s)", s.named(s.err), last))
		case s.behind.has != "":
			said = append(said, fmt.Sprintf("mirror %s is behind: it has %s", s.url, s.behind.has))
		}
	}
	if len(said) > 0 && r.last.snapshot.From != r.cfg.URL {
		said = append([]string{"read from the mirror " + r.last.snapshot.From}, said...)
	}
	return strings.Join(said, "; ")
}

var errBehind = errors.New("the mirror is behind")

// newer is nil if what a mirror has comes after what we have, and errBehind if
// that can't be shown: a mirror must not turn time back.
func (r *Repository) newer(ctx context.Context, v visit, next state) error {
	before := r.before()
	if before.IsZero() || next.commit == before {
		return nil
	}
	if r.cfg.Ref.Semver != "" {
		is, err := semver.NewVersion(next.chosen.name)
		was, wasErr := semver.NewVersion(cmp.Or(r.last.chosen.name, r.resumed.Ref))
		if err != nil || wasErr != nil || is.LessThan(was) {
			return errBehind
		}
		if is.GreaterThan(was) {
			return nil
		}
	}
	came, err := r.descent(ctx, v, next, before)
	if err == nil && came != proved {
		err = errBehind
	}
	return err
}
