package uplink

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

const (
	firstPause = 200 * time.Millisecond
	mostPause  = 30 * time.Second
)

// Run keeps the link up until ctx ends, however long the hub is away. Without
// a hub it only hands out the intent kept from before, and waits. It returns
// ErrSuperseded when another process of this agent has taken over.
func (u *Uplink) Run(ctx context.Context) error {
	s := &session{
		Uplink:  u,
		intents: make(chan fleet.Intent, 1),
		fetch:   make(chan struct{}, 1),
		fell:    make(chan struct{}, 1),
		kick:    make(chan struct{}, 1),
		asks:    make(chan *nats.Msg, askBacklog),
	}
	if err := s.takeKept(ctx); err != nil {
		return ended(ctx, err)
	}
	if !u.HasHub() {
		u.cfg.Log.InfoContext(ctx, "no hub is configured: the agent works by itself", "hint", "to join one: capstan join "+u.cfg.Cluster)
		<-ctx.Done()
		return nil
	}
	if err := s.raise(ctx, 0); err != nil {
		return ended(ctx, err)
	}
	if err := s.join(ctx); err != nil {
		return ended(ctx, err)
	}
	for {
		err := s.connected(ctx)
		if !errors.Is(err, errStray) {
			return ended(ctx, err)
		}
		u.cfg.Log.InfoContext(ctx, "trying every way to the hub anew")
	}
}

// connected dials, and keeps the link up until ctx ends or the way that worked
// has failed for long.
func (s *session) connected(ctx context.Context) error {
	nc, way, err := s.dial(ctx)
	if err != nil {
		return err
	}
	defer nc.Close()
	s.nc = nc
	if err := s.subscribe(); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.beat(ctx) })
	g.Go(func() error { return s.post(ctx) })
	g.Go(func() error { return s.heed(ctx) })
	g.Go(func() error { return s.answer(ctx) })
	g.Go(func() error { return s.stray(ctx, way) })
	return g.Wait()
}

// ended is what Run returns: that it was told to end is no error.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, ErrSuperseded) {
		return nil
	}
	return err
}

// session is one run of the link.
type session struct {
	*Uplink
	nc *nats.Conn

	// line counts the connections there were; greeted is the one whose first
	// heartbeat was answered. Reports go out only while they are equal: the hub
	// takes none of an epoch it has not heard of.
	line, greeted atomic.Int64
	hung          hangup
	fell          chan struct{} // the connection was lost
	said          bool          // the hub has answered a heartbeat of this epoch; beat's own
	seq           uint64        // of the last report; post's own
	issuer        string        // that signs the hub's credentials; beat's own
	link          string        // the stamp of where the hub says it is; beat's own
	unlearnt      string        // the stamp of what was refused, and on which line; beat's own
	learntOn      int64         // the line on which the hub was last asked where it is; beat's own
	learnt        time.Time     // when that was; beat's own
	asked         time.Duration // between heartbeats, by the hub; beat's own

	intents chan fleet.Intent // the latest that was pushed
	fetch   chan struct{}     // asks for the intent to be fetched
	kick    chan struct{}     // asks for a heartbeat now
	asks    chan *nats.Msg
}

// hangup ends the requests that are under way when the connection is lost:
// nobody will answer them, and what comes next is not to wait for that.
type hangup struct {
	mu   sync.Mutex
	lost chan struct{}
}

func (h *hangup) line() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lost == nil {
		h.lost = make(chan struct{})
	}
	return h.lost
}

func (h *hangup) up() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lost != nil {
		close(h.lost)
		h.lost = nil
	}
}

// call sends a message over the line there is now, and decodes the answer.
func call[M wire.Message](ctx context.Context, s *session, subject string, m wire.Message) (M, error) {
	lost := s.hung.line()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	defer func() { cancel(); <-done }()
	go func() {
		defer close(done)
		select {
		case <-lost:
			cancel()
		case <-ctx.Done():
		}
	}()
	return request[M](ctx, s.nc, subject, m)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// retry calls try until it succeeds, with growing pauses. Only the end of ctx
// and being superseded end it early.
func (s *session) retry(ctx context.Context, what string, try func() error) error {
	pause := firstPause
	for {
		err := try()
		if err == nil || errors.Is(err, ErrSuperseded) || ctx.Err() != nil {
			return err
		}
		s.cfg.Log.WarnContext(ctx, what, errorAttrs(err)...)
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, mostPause)
	}
}

func errorAttrs(err error) []any {
	attrs := []any{slog.Any("error", err)}
	if hint := fleet.Hint(err); hint != "" {
		attrs = append(attrs, slog.String("hint", hint))
	}
	return attrs
}

// sleep waits for d and up to half as long again.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d + rand.N(d/2+1))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// raise makes the epoch higher than it was, and than what the hub has seen.
func (s *session) raise(ctx context.Context, seen uint64) error {
	s.said = false
	s.whole.Store(false)
	return s.retry(ctx, "can't raise the agent's epoch", func() error {
		return s.change(ctx, func(k *Kept) { k.Epoch = max(k.Epoch, seen) + 1 })
	})
}

// join enrols, where there is a token that was not used yet.
func (s *session) join(ctx context.Context) error {
	if s.token == nil || s.state().JWT != "" && s.state().Join == s.token.Join {
		return nil
	}
	return s.retry(ctx, "can't enrol at the hub", func() error {
		err := s.enrol(ctx)
		refused := errors.Is(err, fleet.ErrForbidden) || errors.Is(err, fleet.ErrConflict)
		if refused && !errors.Is(err, ErrSuperseded) && s.state().JWT != "" {
			s.cfg.Log.WarnContext(ctx, "the join token is refused: the credentials from before are used", errorAttrs(err)...)
			return nil
		}
		return err
	})
}

// dial connects for the first time, and tells which way worked.
func (s *session) dial(ctx context.Context) (nc *nats.Conn, by way, err error) {
	s.line.Add(1)
	err = s.retry(ctx, "can't connect to the hub", func() error {
		var failed error
		all := s.state().ways()
		if len(all) == 0 {
			return fleet.WithHint(fleet.Invalid("no URL of the hub is kept here"), "join the cluster anew: capstan join "+s.cfg.Cluster)
		}
		for _, w := range all {
			nc, err = s.connect(ctx, w, func() { signal(s.kick) }, s.lost)
			if err == nil {
				by = w
				return nil
			}
			failed = errors.Join(failed, dialError(refusedError(err)))
		}
		return failed
	})
	return nc, by, err
}

// lost notes that the connection is gone.
func (s *session) lost() {
	s.line.Add(1)
	s.whole.Store(false)
	s.hung.up()
	signal(s.fell)
}

// subscribe listens before anything is asked: what is pushed meanwhile is not
// missed.
func (s *session) subscribe() error {
	for subject, take := range map[string]nats.MsgHandler{
		wire.AllDown(s.cfg.Cluster): s.onDown,
		wire.GitSubject:             s.onGit,
	} {
		if _, err := s.nc.Subscribe(subject, take); err != nil {
			return err
		}
	}
	return nil
}

// onDown takes what the hub says to this agent alone, by one subscription: of
// each the hub's NATS server keeps ten thousand.
func (s *session) onDown(m *nats.Msg) {
	switch m.Subject {
	case wire.IntentSubject(s.cfg.Cluster):
		s.onIntent(m)
	case wire.AskSubject(s.cfg.Cluster):
		s.onAsk(m)
	}
}

func (s *session) onGit(m *nats.Msg) {
	n, err := wire.Decode[wire.GitNotice](m.Data)
	if err != nil {
		s.cfg.Log.Warn("a notice from the hub can't be read", "error", err)
		return
	}
	s.spoke.GitPushed(fleet.Push{RepoURL: n.URL, Refs: n.Refs, Agents: n.Agents})
}
