package broker_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// slow is a desk that answers reports when it is let.
type slow struct {
	*memo
	begun chan struct{}
	let   chan struct{}
}

func (s *slow) Report(ctx context.Context, cluster string, r wire.Report) error {
	s.begun <- struct{}{}
	<-s.let
	return s.memo.Report(ctx, cluster, r)
}

func TestDrainingAnswersWhatWasTakenAndTakesNoMore(t *testing.T) {
	b := start(t, t.TempDir())
	desk := &slow{b.desk, make(chan struct{}, 100), make(chan struct{})}
	if err := b.Serve(desk); err != nil {
		t.Fatal(err)
	}
	agent, _ := b.agent(t, "c1")
	subject := wire.StatusSubject("c1", fleet.AppName{Namespace: "shop", Name: "web"})
	answers := make(chan error, 1)
	go func() {
		m, err := agent.Request(subject, encode(t, status("last words")), 30*time.Second)
		if err == nil {
			_, err = wire.Decode[wire.Ack](m.Data)
		}
		answers <- err
	}()
	<-desk.begun
	short, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Drain(short); err == nil {
		t.Error("it had drained before the answer was given")
	}
	drained := make(chan error, 1)
	go func() { drained <- b.Drain(t.Context()) }()
	late := status("too late")
	late.App.App = "late"
	for { // until nobody listens any more
		if _, err := agent.Request(wire.StatusSubject("c1", late.Name()), encode(t, late), 5*time.Second); errors.Is(err, nats.ErrNoResponders) {
			break
		}
	}
	select {
	case err := <-drained:
		t.Fatalf("it drained with an answer outstanding: %v", err)
	default:
	}
	close(desk.let)
	if err := <-answers; err != nil {
		t.Errorf("the report that was taken: %v", err)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if got := b.desk.status("c1/shop/web"); got != "last words" {
		t.Errorf("kept %q", got)
	}
}
