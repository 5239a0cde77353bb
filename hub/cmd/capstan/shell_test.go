package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestConfirmAsksOnlyWhereSomebodyCanAnswer(t *testing.T) {
	for _, test := range []struct {
		name, answer string
		typed, yes   bool
		ok, asked    bool
	}{
		{"a script", "", false, false, true, false},
		{"--yes", "", true, true, true, false},
		{"y", "y\n", true, false, true, true},
		{"YES", " YES \n", true, false, true, true},
		{"enter", "\n", true, false, false, true},
		{"no", "no\n", true, false, false, true},
		{"end of input", "", true, false, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var said bytes.Buffer
			s := &shell{in: strings.NewReader(test.answer), err: &said, typed: test.typed}
			err := s.confirm("Sure?", test.yes)
			if (err == nil) != test.ok || strings.Contains(said.String(), "Sure?") != test.asked {
				t.Errorf("error %v, said %q", err, said.String())
			}
		})
	}
}

func TestColoursAreForTerminals(t *testing.T) {
	for _, color := range []bool{false, true} {
		s := &shell{color: color}
		got := s.align([]string{"a", string(fleet.Degraded), "x"}, []int{3, 8, 1})
		want := "a     Degraded   x"
		if color {
			want = "a     \x1b[31mDegraded\x1b[0m   x"
		}
		if got != want {
			t.Errorf("colour %v: %q, want %q", color, got, want)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	var said bytes.Buffer
	s := &shell{err: &said}
	code := s.finish(exitError{exitDiffFailed, fleet.WithHint(errors.New("it broke"), "mend it")})
	if code != exitDiffFailed || said.String() != "error: it broke\nhint: mend it\n" {
		t.Errorf("code %d, said %q", code, said.String())
	}
}

func TestSpansAreShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 90 * time.Second: "90s", 5 * time.Minute: "5m", 3 * time.Hour: "3h", 100 * time.Hour: "4d",
	} {
		if got := span(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}
