package fleet_test

import (
	"encoding/json"
	"testing"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestAnEventIsSaidShortly(t *testing.T) {
	for want, e := range map[string]fleet.Event{
		"":                                {},
		`{"env":"dev"} -> {"env":"prod"}`: {Before: json.RawMessage(`{"env":"dev"}`), After: json.RawMessage(`{"env":"prod"}`)},
		`nothing -> {"env":"prod"}`:       {After: json.RawMessage(`{"env":"prod"}`)},
		`{"comment":"no"}`:                {Detail: json.RawMessage(`{"comment":"no"}`)},
		"main@sha1:11111111 -> nothing":   {Before: json.RawMessage(`{"revision":"main@sha1:1111111111111111111111111111111111111111"}`)},
		"nothing -> main@sha1:22222222":   {After: json.RawMessage(`{"revision":"main@sha1:2222222222222222222222222222222222222222"}`)},
		`["what","is"] -> "no revision"`:  {Before: json.RawMessage(`["what","is"]`), After: json.RawMessage(`"no revision"`)},
	} {
		if got := e.Text(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
