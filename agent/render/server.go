package render

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/capstan-gitops/capstan/agent/render/pipe"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Bounds of what one render is given. The worker's own bounds are lower and
// have better words; these hold for one that does not keep to them.
const (
	maxFile        = 8 << 20
	maxObjects     = 100_000
	maxServed      = 128 << 20
	maxDirectory   = 100_000 // entries
	maxChartFiles  = 64      // that are fetched
	entryOverheads = 32

	maxKeyQuestions = 1000    // a file asks one, or one for each group of its keys
	maxKeyQuestion  = 1 << 20 // bytes
	maxKeyAnswer    = 256
)

// server answers a worker's questions from the tree.
type server struct {
	tree    unit.Tree
	keys    unit.KeyRing // nil: none
	used    bool         // the worker rendered something else before
	objects int
	bytes   int64
	err     error // why something could not be had

	keyQuestions int
	keysAway     error // why one could not be asked

	charts     Charts
	repository string // of the App's own chart
	access     unit.ChartAccess
	fetches    int

	clock   sync.Mutex
	fetched time.Duration // spent on fetching
	since   time.Time     // when the fetch at work began; zero: none is
}

// away is how long a render waited for files and charts so far.
func (s *server) away() time.Duration {
	s.clock.Lock()
	defer s.clock.Unlock()
	if s.since.IsZero() {
		return s.fetched
	}
	return s.fetched + time.Since(s.since)
}

func (s *server) fetching(on bool) {
	s.clock.Lock()
	defer s.clock.Unlock()
	if on {
		s.since = time.Now()
		return
	}
	s.fetched, s.since = s.fetched+time.Since(s.since), time.Time{}
}

func (s *server) failure(q unit.RenderRequest) error {
	return &unit.ReadError{Path: q.Path, Commit: q.Snapshot.Commit, Err: s.err}
}

// converse sends a job and answers questions until there is an outcome.
func (p *process) converse(ctx context.Context, s *server, j pipe.Job) (pipe.Outcome, error) {
	if err := pipe.WriteFrame(p.in, pipe.KindJob, j.Encode()); err != nil {
		return pipe.Outcome{}, err
	}
	for {
		k, b, err := pipe.ReadFrame(p.out)
		if err != nil {
			return pipe.Outcome{}, err
		}
		var answer []byte
		switch k {
		case pipe.KindAskTree:
			answer, err = s.entries(ctx, b)
		case pipe.KindAskBlob:
			answer, err = s.blob(ctx, b)
		case pipe.KindAskChart:
			answer, err = s.chart(ctx, b)
		case pipe.KindAskKey:
			answer, err = s.key(ctx, b)
		case pipe.KindOutcome:
			return pipe.DecodeOutcome(b)
		default:
			err = pipe.ErrFrame
		}
		if err != nil {
			return pipe.Outcome{}, err
		}
		if err := pipe.WriteFrame(p.in, pipe.KindAnswer, answer); err != nil {
			return pipe.Outcome{}, err
		}
	}
}

func (s *server) entries(ctx context.Context, question []byte) ([]byte, error) {
	q, err := pipe.DecodeAskTree(question)
	if err != nil {
		return nil, err
	}
	if !s.afford(0) {
		return pipe.Refusal(pipe.StatusBudget), nil
	}
	all, err := s.tree.Entries(ctx, q.Dir)
	if err != nil {
		return s.failed(err), nil
	}
	if len(all) > maxDirectory {
		return pipe.Refusal(pipe.StatusTooLarge), nil
	}
	answer := pipe.EncodeEntries(all)
	if !s.afford(int64(len(answer))) {
		return pipe.Refusal(pipe.StatusBudget), nil
	}
	return answer, nil
}

func (s *server) blob(ctx context.Context, question []byte) ([]byte, error) {
	q, err := pipe.DecodeAskBlob(question)
	if err != nil {
		return nil, err
	}
	if !s.afford(0) {
		return pipe.Refusal(pipe.StatusBudget), nil
	}
	s.fetching(true)
	b, err := s.tree.Blob(ctx, q.File, int64(min(q.Most, maxFile)))
	s.fetching(false)
	if errors.Is(err, unit.ErrTooLarge) {
		return pipe.Refusal(pipe.StatusTooLarge), nil
	}
	if err != nil {
		return s.failed(err), nil
	}
	if !s.afford(int64(len(b))) {
		return pipe.Refusal(pipe.StatusBudget), nil
	}
	return pipe.EncodeBlob(b), nil
}

// chart passes on what was fetched, unread: it came from strangers.
func (s *server) chart(ctx context.Context, question []byte) ([]byte, error) {
	q, err := pipe.DecodeAskChart(question)
	if err != nil {
		return nil, err
	}
	if s.fetches++; s.fetches > maxChartFiles {
		return pipe.Refusal(pipe.StatusBudget), nil
	}
	if s.charts == nil {
		return s.failed(&unit.ChartError{Message: "charts of other places are not fetched here", Hint: "commit the chart to the repository"}), nil
	}
	s.fetching(true)
	b, err := s.charts.Fetch(ctx, q.File, s.repository, s.access)
	s.fetching(false)
	if err != nil {
		return s.failed(err), nil
	}
	return pipe.EncodeBlob(b), nil
}

// key has a data key decrypted. The worker gets it, and nothing of the keys
// that were used.
func (s *server) key(ctx context.Context, question []byte) ([]byte, error) {
	q, err := pipe.DecodeAskKey(question)
	if err != nil {
		return nil, err
	}
	if s.keys == nil {
		return nil, pipe.ErrFrame // a worker that was told so does not ask
	}
	if s.used {
		return nil, errUsed
	}
	if s.keyQuestions++; s.keyQuestions > maxKeyQuestions || len(question) > maxKeyQuestion {
		return pipe.Refusal(pipe.StatusBudget), nil
	}
	s.fetching(true)
	data, err := s.keys.Open(ctx, q.Any)
	s.fetching(false)
	if away, ok := errors.AsType[*unit.KeysAway](err); ok {
		s.keysAway = away
		return pipe.Key{Message: away.Err.Error(), Hint: fleet.Hint(away), Away: true}.Encode(), nil
	}
	if err != nil {
		return pipe.Key{Message: err.Error(), Hint: fleet.Hint(err)}.Encode(), nil
	}
	if len(data) > maxKeyAnswer {
		return pipe.Key{Message: "what its key decrypts to is no data key"}.Encode(), nil
	}
	return pipe.Key{Data: data}.Encode(), nil
}

// afford counts an object, or its bytes once they are known.
func (s *server) afford(n int64) bool {
	if n == 0 {
		s.objects++
	}
	s.bytes += n
	return s.objects <= maxObjects && s.bytes <= maxServed
}

func (s *server) failed(err error) []byte {
	if s.err == nil {
		s.err = err
	}
	return pipe.Refusal(pipe.StatusFailed)
}
