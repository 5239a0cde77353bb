package uplink

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

const (
	// askBacklog is how many questions may wait; more go unanswered.
	askBacklog = 64
	// askRate and askBurst bound what the hub can make an agent do.
	askRate  = 20
	askBurst = 100
	// answerLife is how long an answer is kept for its other parts.
	answerLife = 30 * time.Second
	// mostAnswers bounds the answers kept at once.
	mostAnswers = 4
)

func (s *session) onAsk(m *nats.Msg) {
	select {
	case s.asks <- m:
	default:
		s.cfg.Log.Warn("too many questions from the hub wait: one was dropped")
	}
}

// answer answers questions one by one, no faster than allowed.
func (s *session) answer(ctx context.Context) error {
	limit := rate.NewLimiter(askRate, askBurst)
	kept := make(map[wire.Ask]*answered)
	for {
		select {
		case m := <-s.asks:
			if err := limit.Wait(ctx); err != nil {
				return err
			}
			s.respond(ctx, m, kept)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *session) respond(ctx context.Context, m *nats.Msg, kept map[wire.Ask]*answered) {
	var answer wire.Message
	a, err := wire.Decode[wire.Ask](m.Data)
	if err == nil {
		answer, err = s.part(a, kept)
	}
	if err != nil {
		answer = wire.Fail(err)
	}
	data, err := wire.Encode(answer)
	if err == nil {
		err = m.Respond(data)
	}
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "can't answer the hub", errorAttrs(err)...)
	}
}

// answered is an answer that is being fetched in parts.
type answered struct {
	etag string
	data []byte
	at   time.Time
}

// part returns the piece that is asked for: of the answer the pieces before
// came from if it is still kept, else the first piece of a new one.
func (s *session) part(a wire.Ask, kept map[wire.Ask]*answered) (wire.Part, error) {
	question := wire.Ask{What: a.What, App: a.App}
	now := time.Now()
	for q, k := range kept {
		if now.Sub(k.at) > answerLife {
			delete(kept, q)
		}
	}
	k := kept[question]
	if a.Offset == 0 || k == nil || k.etag != a.ETag {
		data, err := s.look(question)
		if err != nil {
			return wire.Part{}, err
		}
		sum := sha256.Sum256(data)
		k = &answered{etag: hex.EncodeToString(sum[:16]), data: data}
		if k.etag != a.ETag {
			a.Offset = 0
		}
		if len(data) > wire.PartSize && len(kept) < mostAnswers {
			kept[question] = k
		}
	}
	k.at = now
	from := min(a.Offset, len(k.data))
	to := min(from+wire.PartSize, len(k.data))
	if to == len(k.data) {
		delete(kept, question)
	}
	return wire.Part{ETag: k.etag, Total: len(k.data), Data: k.data[from:to]}, nil
}

func (s *session) look(a wire.Ask) ([]byte, error) {
	var answer any
	var err error
	switch a.What {
	case wire.AskPlan:
		answer, err = s.spoke.Plan(a.App)
	case wire.AskHistory:
		answer, err = s.spoke.History(a.App)
	case wire.AskTree:
		answer, err = s.spoke.Tree(a.App)
	default:
		err = fleet.Invalid("%q can't be asked for", a.What)
	}
	if err != nil {
		return nil, err
	}
	return wire.JSON(answer)
}
