// Package gitserver serves Git repositories over smart HTTP as a forge does:
// users with passwords who may read or write, protocol v2, partial clones, and a
// call to a webhook after each push. git itself does the work.
package gitserver

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config says what to serve, and to whom.
type Config struct {
	Dir     string          // where the bare repositories are kept
	Listen  string          // address; empty: 127.0.0.1 and any free port
	Users   map[string]User // by name; there is no anonymous access
	Webhook Webhook         // may be set later: SetWebhook
	Log     *slog.Logger    // nil: slog's default
}

// User is somebody who may read every repository, and perhaps write.
type User struct {
	Password string
	Write    bool
}

const (
	maxPush      = 256 << 20
	closeWithin  = 5 * time.Second
	readHeaderIn = 10 * time.Second
)

// Server is a running Git server.
type Server struct {
	cfg  Config
	git  string
	http *http.Server
	addr string
	log  *slog.Logger

	unavailable atomic.Bool
	refuse      atomic.Bool
	passwords   sync.Map // of users, where they were changed

	fetches, received, sent atomic.Int64

	pushing sync.Mutex // one push at a time, so that its refs can be told apart
	pushed  atomic.Int64
	hooks   hooks
}

// Start serves until Close.
func Start(cfg Config) (*Server, error) {
	git, err := exec.LookPath("git")
	if err != nil {
		return nil, fmt.Errorf("git server: %w", err)
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("git server: %w", err)
	}
	s := &Server{cfg: cfg, git: git, addr: listener.Addr().String(), log: cfg.Log}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.hooks.start(cfg.Webhook, s.log)
	s.http = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: readHeaderIn}
	go func() {
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("git server ended", "error", err)
		}
	}()
	return s, nil
}

// Close ends the server and the webhook calls on their way.
func (s *Server) Close() error {
	s.hooks.stop()
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("git server: %w", err), s.http.Close())
	}
	return nil
}

// URL is where a repository is served, without credentials.
func (s *Server) URL(repository string) string {
	return "http://" + s.addr + "/" + repository + ".git"
}

// Create makes an empty repository whose branch is main.
func (s *Server) Create(ctx context.Context, repository string) error {
	dir := filepath.Join(s.cfg.Dir, repository+".git")
	for _, args := range [][]string{
		{"init", "--quiet", "--bare", "--initial-branch=main", dir},
		{"-C", dir, "config", "http.receivepack", "true"},
		{"-C", dir, "config", "uploadpack.allowFilter", "true"},
		{"-C", dir, "config", "uploadpack.allowAnySHA1InWant", "true"},
	} {
		if _, err := run(ctx, s.cfg.Dir, args...); err != nil {
			return err
		}
	}
	return nil
}

// SetAvailable(false) makes the server answer 503 to everything.
func (s *Server) SetAvailable(yes bool) { s.unavailable.Store(!yes) }

// RefuseCredentials(true) makes the server accept nobody's password.
func (s *Server) RefuseCredentials(yes bool) { s.refuse.Store(yes) }

// SetPassword changes a user's password.
func (s *Server) SetPassword(user, password string) { s.passwords.Store(user, password) }

// LastPush is when the last push was through.
func (s *Server) LastPush() time.Time { return time.Unix(0, s.pushed.Load()) }

// Traffic is what those who read have caused so far.
type Traffic struct {
	Requests       int64
	Received, Sent int64 // bytes of bodies, as the server sees them
}

// Traffic tells what was asked and answered so far, pushes left out.
func (s *Server) Traffic() Traffic {
	return Traffic{Requests: s.fetches.Load(), Received: s.received.Load(), Sent: s.sent.Load()}
}

// Since is what came after an earlier Traffic.
func (t Traffic) Since(before Traffic) Traffic {
	return Traffic{t.Requests - before.Requests, t.Received - before.Received, t.Sent - before.Sent}
}

// Bytes are those of both directions.
func (t Traffic) Bytes() int64 { return t.Received + t.Sent }

type countingBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (b countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

type countingWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (w countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n.Add(int64(n))
	return n, err
}

// SetWebhook changes what is called after a push.
func (s *Server) SetWebhook(w Webhook) { s.hooks.set(w) }

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if s.unavailable.Load() {
		http.Error(w, "the git server is down for maintenance", http.StatusServiceUnavailable)
		return
	}
	user, ok := s.authenticate(r)
	if !ok {
		w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	if !isPush(r) {
		s.fetches.Add(1)
		r.Body = countingBody{r.Body, &s.received}
		s.backend(countingWriter{w, &s.sent}, r)
		return
	}
	if !user.Write {
		http.Error(w, "you may read here, not write", http.StatusForbidden)
		return
	}
	s.push(w, r)
}

func (s *Server) authenticate(r *http.Request) (User, bool) {
	name, password, ok := r.BasicAuth()
	user, known := s.cfg.Users[name]
	if changed, ok := s.passwords.Load(name); ok {
		user.Password, _ = changed.(string)
	}
	same := subtle.ConstantTimeCompare([]byte(password), []byte(user.Password)) == 1
	return user, ok && known && same && !s.refuse.Load()
}

// isPush is true for both requests of a push: the refs' advertisement and the pack.
func isPush(r *http.Request) bool {
	return strings.HasSuffix(r.URL.Path, "/git-receive-pack") || r.URL.Query().Get("service") == "git-receive-pack"
}

func (s *Server) push(w http.ResponseWriter, r *http.Request) {
	repository, found := strings.CutSuffix(strings.Trim(r.URL.Path, "/"), ".git/git-receive-pack")
	if !found { // the advertisement
		s.backend(w, r)
		return
	}
	s.pushing.Lock()
	defer s.pushing.Unlock()
	before, err := s.refs(r.Context(), repository)
	if err != nil {
		http.Error(w, "no such repository", http.StatusNotFound)
		return
	}
	s.backend(w, r)
	s.pushed.Store(time.Now().UnixNano())
	// The client may hang up once it has its answer: the push has happened all the same.
	after, err := s.refs(context.WithoutCancel(r.Context()), repository)
	if err != nil {
		s.log.Error("refs not readable after a push", "repository", repository, "error", err)
		return
	}
	for ref, id := range after {
		if before[ref] != id {
			s.hooks.call(s.URL(repository), ref)
		}
	}
}

func (s *Server) refs(ctx context.Context, repository string) (map[string]string, error) {
	dir := filepath.Join(s.cfg.Dir, repository+".git")
	out, err := run(ctx, s.cfg.Dir, "--git-dir", dir, "for-each-ref", "--format=%(refname) %(objectname)")
	if err != nil {
		return nil, err
	}
	refs := make(map[string]string)
	for line := range strings.Lines(out) {
		ref, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		refs[ref] = id
	}
	return refs, nil
}

// backend hands a request to git http-backend.
func (s *Server) backend(w http.ResponseWriter, r *http.Request) {
	if len(r.TransferEncoding) > 0 { // CGI wants a length; git sends large pushes in chunks
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPush))
		if err != nil {
			http.Error(w, "push not read", http.StatusRequestEntityTooLarge)
			return
		}
		r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	}
	(&cgi.Handler{
		Path: s.git, Args: []string{"http-backend"}, Dir: s.cfg.Dir,
		Env: append(environment(),
			"GIT_PROJECT_ROOT="+s.cfg.Dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_PROTOCOL="+r.Header.Get("Git-Protocol")),
		Logger: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		Stderr: io.Discard,
	}).ServeHTTP(w, r)
}

// environment keeps the user's own git configuration out.
func environment() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.DevNull, "LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_TERMINAL_PROMPT=0",
	}
}

func run(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir, cmd.Env = dir, environment()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}
