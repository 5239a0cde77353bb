package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const bundleLong = `Collect what helps others to help you, into one file that can be shown to them:
the versions, clusters, apps, what people changed and what changed on clusters
last, and the logs you name. Nothing is changed, and nothing is sent anywhere.

Secrets are taken out of all of it: your token, keys and tokens by their form,
credentials in addresses, values whose names say what they are, and long random
words. Names of clusters, apps, people and repositories are in it. Plans and
manifests are not. Look it through before you give it away.`

func newSupportBundle(s *shell) *cobra.Command {
	var file string
	var logs []string
	var events int
	c := &cobra.Command{
		Use:   "support-bundle",
		Short: "Collect what helps others to help you, without secrets",
		Long:  bundleLong,
		Example: `  capstan support-bundle
  kubectl -n capstan-hub logs deploy/capstan-hub > hub.log
  kubectl -n capstan-system logs deploy/capstan-agent > agent.log
  capstan support-bundle --log hub.log --log agent.log --file bundle.tar.gz`,
		Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			if events < 0 || events > fleet.MaxEvents {
				return usage("for instance --events 200", "--events must be between 0 and %d", fleet.MaxEvents)
			}
			b := &bundle{root: "capstan-support-" + s.now().UTC().Format("20060102T150405Z"), at: s.now()}
			b.clean.known = []string{s.env("CAPSTAN_TOKEN")}
			if token, err := s.signedIn(s.hubAddress()); err == nil {
				b.clean.known = append(b.clean.known, token)
			}
			collect(c.Context(), s, b, events)
			for _, l := range logs {
				if err := b.log(l); err != nil {
					return err
				}
			}
			name := cmp.Or(file, b.root+".tar.gz")
			if err := b.write(name); err != nil {
				return err
			}
			s.printf("%s\n", name)
			for _, f := range b.failed {
				s.say("not in it: %s", f)
			}
			s.say("look it through before you give it away: tar -xzf %s", name)
			return nil
		},
	}
	c.Flags().StringVar(&file, "file", "", "file to write (default capstan-support-TIME.tar.gz)")
	c.Flags().StringArrayVar(&logs, "log", nil, "a log file to take in; can be given several times")
	c.Flags().IntVar(&events, "events", 200, "how many of the last changes to take in")
	return c
}

// bundle is the files of one, redacted as they come.
type bundle struct {
	root   string
	at     time.Time
	clean  redactor
	files  []bundleFile
	failed []string
}

type bundleFile struct {
	name string
	data []byte
}

func (b *bundle) addJSON(name string, v any) {
	text, err := json.Marshal(v)
	if err == nil {
		text, err = b.clean.json(text, "  ")
	}
	if err != nil {
		b.miss(name, err)
		return
	}
	b.files = append(b.files, bundleFile{name, append(text, '\n')})
}

func (b *bundle) miss(name string, err error) {
	b.failed = append(b.failed, name+": "+b.clean.redact(err.Error()))
}

// collect asks the hub. What it does not say is left out, and said.
func collect(ctx context.Context, s *shell, b *bundle, events int) {
	b.addJSON("client.json", map[string]any{"version": ownVersion(), "at": b.at.UTC(), "hub": s.hubAddress(), "set": setVariables(s)})
	h, err := s.hub()
	if err != nil {
		b.miss("everything of the hub", err)
		return
	}
	take := func(name string, get func() (any, error)) {
		v, err := get()
		if err != nil {
			b.miss(name, err)
			return
		}
		b.addJSON(name, v)
	}
	take("whoami.json", func() (any, error) { return h.Whoami(ctx) })
	take("clusters.json", func() (any, error) { return h.Clusters(ctx, fleet.ClusterFilter{}) })
	take("apps.json", func() (any, error) { return h.Apps(ctx, fleet.AppFilter{}) })
	if events > 0 {
		take("events.json", func() (any, error) { return lastEvents(ctx, b.at, events, h.Events) })
		take("changes.json", func() (any, error) { return lastEvents(ctx, b.at, events, h.Changes) })
	}
}

// lastEvents are up to n of the last week, the newest: pages come oldest first.
func lastEvents(ctx context.Context, now time.Time, n int, read func(context.Context, fleet.EventFilter) (fleet.EventPage, error)) ([]fleet.Event, error) {
	f := fleet.EventFilter{Since: now.Add(-7 * 24 * time.Hour), Limit: fleet.MaxEvents}
	out := []fleet.Event{}
	for {
		page, err := read(ctx, f)
		if err != nil {
			return nil, err
		}
		out = append(out, page.Items...)
		out = out[max(0, len(out)-n):]
		if page.Continue == "" {
			return out, nil
		}
		f.Continue = page.Continue
	}
}

// setVariables names what is set, without the values.
func setVariables(s *shell) []string {
	out := []string{}
	for _, name := range []string{"CAPSTAN_HUB", "CAPSTAN_TOKEN", "CAPSTAN_KEY", "CAPSTAN_KNOWN_AGENTS", "SSH_AUTH_SOCK", "HTTPS_PROXY", "NO_PROXY"} {
		if s.env(name) != "" {
			out = append(out, name)
		}
	}
	return out
}

// maxLog is how much of a log is taken in: its end.
const maxLog = 16 << 20

func (b *bundle) log(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fleet.Invalid("%s is not a file", file)
	}
	if over := info.Size() - maxLog; over > 0 {
		if _, err := f.Seek(over, io.SeekStart); err != nil {
			return err
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxLog))
	if err != nil {
		return err
	}
	text := strings.ToValidUTF8(string(data), "?")
	if info.Size() > maxLog { // half a line may be the end of a secret whose beginning would have told
		_, text, _ = strings.Cut(text, "\n")
	}
	name := fmt.Sprintf("logs/%d-%s", len(b.files), filepath.Base(file))
	b.files = append(b.files, bundleFile{name, []byte(b.clean.lines(text))})
	return nil
}

// write puts the file in place whole, for its owner alone.
func (b *bundle) write(name string) (err error) {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	archive := tar.NewWriter(zip)
	for _, f := range b.files {
		h := &tar.Header{Name: path.Join(b.root, f.name), Mode: 0o600, Size: int64(len(f.data)), ModTime: b.at}
		if err := archive.WriteHeader(h); err != nil {
			return err
		}
		if _, err := archive.Write(f.data); err != nil {
			return err
		}
	}
	if err := errors.Join(archive.Close(), zip.Close()); err != nil {
		return err
	}
	to, err := os.CreateTemp(filepath.Dir(name), ".support-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(to.Name()))
		}
	}()
	_, err = to.Write(out.Bytes())
	if err = errors.Join(err, to.Close()); err != nil {
		return err
	}
	return os.Rename(to.Name(), name)
}
