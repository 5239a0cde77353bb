package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/hub/store"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// socketName is where, in its data directory, a running hub takes what only
// those may ask who can read that directory anyway.
const socketName = "control.sock"

// control is that socket.
type control struct {
	dir    *os.File
	server *http.Server
	l      net.Listener
}

// socketPath names the socket by its open directory: the path of a socket may
// have no more than a hundred bytes.
func socketPath(dir *os.File) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), socketName)
}

// openControl listens. The data directory is locked, so a socket that is there
// is a dead hub's.
func openControl(cfg Config, instance string, kept *store.KV) (_ *control, err error) {
	c := &control{}
	if c.dir, err = os.Open(cfg.DataDir); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	defer func() {
		if err != nil {
			c.dir.Close()
		}
	}()
	if err := os.Remove(filepath.Join(cfg.DataDir, socketName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if c.l, err = net.Listen("unix", socketPath(c.dir)); err != nil { //nolint:noctx // takes no time
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := os.Chmod(filepath.Join(cfg.DataDir, socketName), 0o600); err != nil {
		c.l.Close()
		return nil, fmt.Errorf("data directory: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /backup", func(w http.ResponseWriter, r *http.Request) {
		if cfg.shared() {
			say(w, http.StatusConflict, "its state is on NATS servers: back those up, with nats stream backup, and the directory of --nats-keys")
			return
		}
		cfg.Log.InfoContext(r.Context(), "taking a backup")
		if err := writeBackup(r.Context(), cfg, instance, kept, w); err != nil {
			cfg.Log.ErrorContext(r.Context(), "the backup failed", "error", err)
			panic(http.ErrAbortHandler) // the other side sees that it is cut short
		}
	})
	c.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug)}
	return c, nil
}

func (c *control) serve() error {
	if err := c.server.Serve(c.l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

func (c *control) close() {
	c.server.Close()
	c.l.Close()
	c.dir.Close()
}

// Backup has the hub that runs on a data directory write a backup.
// ErrUnavailable: no hub runs there.
func Backup(ctx context.Context, dataDir string, w io.Writer) error {
	dir, err := os.Open(dataDir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	defer dir.Close()
	var d net.Dialer
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", socketPath(dir))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://hub/backup", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fleet.WithHint(fleet.Unavailable("no hub runs on %s: %w", dataDir, err),
			"start it, or copy the directory of a hub that is stopped")
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return fleet.Conflict("the hub takes no backup: %s", strings.TrimSpace(string(why)))
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fleet.WithHint(fleet.Unavailable("the hub did not finish the backup: %w", err), "the hub's log says why")
	}
	return nil
}
