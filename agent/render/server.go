package render

import (
	"context"
	"errors"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// Bounds of what one render is given. The worker's own bounds are lower and
// have better words; these hold for one that does not keep to them.
const (
	maxObjects     = 100_000
	maxServed      = 128 << 20
	maxDirectory   = 100_000 // entries
	entryOverheads = 32
)

// server answers a worker's questions from the tree.
type server struct {
	tree    unit.Tree
	objects int
	bytes   int64
	err     error // why an object could not be had
}

// converse sends a job and answers questions until there is an outcome.
func (p *process) converse(ctx context.Context, s *server, j job) (outcome, error) {
	if err := writeFrame(p.in, kindJob, j.encode()); err != nil {
		return outcome{}, err
	}
	for {
		k, b, err := readFrame(p.out)
		if err != nil {
			return outcome{}, err
		}
		var answer []byte
		switch k {
		case kindAskTree:
			answer, err = s.entries(ctx, b)
		case kindAskBlob:
			answer, err = s.blob(ctx, b)
		case kindOutcome:
			return decodeOutcome(b)
		default:
			err = errFrame
		}
		if err != nil {
			return outcome{}, err
		}
		if err := writeFrame(p.in, kindAnswer, answer); err != nil {
			return outcome{}, err
		}
	}
}

func (s *server) entries(ctx context.Context, question []byte) ([]byte, error) {
	d := decoder{b: question}
	h := d.hash()
	if err := d.done(); err != nil {
		return nil, err
	}
	if !s.afford(0) {
		return refusal(statusBudget), nil
	}
	all, err := s.tree.Entries(ctx, h)
	if err != nil {
		return s.failed(err), nil
	}
	if len(all) > maxDirectory {
		return refusal(statusTooLarge), nil
	}
	answer := encodeEntries(all)
	if !s.afford(int64(len(answer))) {
		return refusal(statusBudget), nil
	}
	return answer, nil
}

func (s *server) blob(ctx context.Context, question []byte) ([]byte, error) {
	d := decoder{b: question}
	h, most := d.hash(), d.uint()
	if err := d.done(); err != nil {
		return nil, err
	}
	if !s.afford(0) {
		return refusal(statusBudget), nil
	}
	b, err := s.tree.Blob(ctx, h, int64(min(most, maxFile)))
	if errors.Is(err, unit.ErrTooLarge) {
		return refusal(statusTooLarge), nil
	}
	if err != nil {
		return s.failed(err), nil
	}
	if !s.afford(int64(len(b))) {
		return refusal(statusBudget), nil
	}
	var e encoder
	e.uint(uint64(statusOK))
	e.bytes(b)
	return e.b, nil
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
	return refusal(statusFailed)
}

func refusal(s status) []byte {
	var e encoder
	e.uint(uint64(s))
	return e.b
}
