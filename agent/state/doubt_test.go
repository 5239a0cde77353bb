package state_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// lose ends a request that was carried out without an answer, if it is its turn.
func (s *secrets) lose() {
	if s.lost > 0 {
		s.lost--
		panic(http.ErrAbortHandler)
	}
}

// loseNext has the next answer to a write lost: it is done, and nobody hears of it.
func (s *secrets) loseNext() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = 1
}

// known is a store that wrote an app before.
func known(t *testing.T, cfg *rest.Config) *state.Store {
	t.Helper()
	s := open(t, cfg)
	if err := s.SaveApp(t.Context(), sample(t, 1)); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAWriteWhoseAnswerWasLostIsNotTakenForAnotherAgents(t *testing.T) {
	for name, writer := range map[string]func(*testing.T, *rest.Config) *state.Store{"of a new app": open, "of one that is there": known} {
		t.Run(name, func(t *testing.T) {
			api, cfg := serve(t)
			s := writer(t, cfg)
			api.loseNext()
			if err := s.SaveApp(t.Context(), sample(t, 2)); err == nil || errors.Is(err, fleet.ErrConflict) {
				t.Fatalf("the answer was lost, and it says %v", err)
			}
			if err := s.SaveApp(t.Context(), sample(t, 3)); err != nil {
				t.Fatal(err)
			}
			if apps := load(t, open(t, cfg)); len(apps) != 1 || len(apps[0].Items) != 3 {
				t.Errorf("what is kept is not what was written last: %d apps", len(apps))
			}
		})
	}
}

func TestAnAppWhoseWriteWasLostCanBeForgotten(t *testing.T) {
	api, cfg := serve(t)
	s := known(t, cfg)
	api.loseNext()
	if err := s.SaveApp(t.Context(), sample(t, 2)); err == nil {
		t.Fatal("no answer was lost")
	}
	if err := s.DeleteApp(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if n := len(api.kept); n != 0 {
		t.Errorf("%d Secrets are left", n)
	}
}

func TestAnAppWhoseEndWasLostCanComeBack(t *testing.T) {
	api, cfg := serve(t)
	s := known(t, cfg)
	api.loseNext()
	if err := s.DeleteApp(t.Context(), name); err == nil {
		t.Fatal("no answer was lost")
	}
	if err := s.SaveApp(t.Context(), sample(t, 2)); err != nil {
		t.Fatal(err)
	}
	if apps := load(t, open(t, cfg)); len(apps) != 1 {
		t.Errorf("%d apps are kept", len(apps))
	}
}

func TestItIsKnownWhichOfSeveralWritesWasDone(t *testing.T) {
	api, cfg := serve(t)
	s := known(t, cfg)
	api.loseNext()
	if err := s.SaveApp(t.Context(), sample(t, 2)); err == nil {
		t.Fatal("no answer was lost")
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := s.SaveApp(ended, sample(t, 3)); err == nil { // never gets there
		t.Fatal("it was answered")
	}
	if err := s.SaveApp(t.Context(), sample(t, 4)); err != nil {
		t.Fatal(err)
	}
}

func TestAnotherAgentsWriteIsNotTakenForALostOne(t *testing.T) {
	api, cfg := serve(t)
	s := known(t, cfg)
	api.loseNext()
	if err := s.SaveApp(t.Context(), sample(t, 2)); err == nil {
		t.Fatal("no answer was lost")
	}
	other := open(t, cfg)
	load(t, other)
	if err := other.SaveApp(t.Context(), sample(t, 4)); err != nil {
		t.Fatal(err)
	}
	if err := s.SaveApp(t.Context(), sample(t, 3)); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("got %v", err)
	}
	if err := s.DeleteApp(t.Context(), name); !errors.Is(err, fleet.ErrConflict) {
		t.Errorf("got %v", err)
	}
}
