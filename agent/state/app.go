package state

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/capstan-gitops/capstan/agent/hooks"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// App is all that is kept of one app.
type App struct {
	Name     fleet.AppName    `json:"name"`
	Spec     json.RawMessage  `json:"spec,omitempty"` // of what is applied
	Path     string           `json:"path,omitempty"` // with its template filled in
	Revision fleet.Revision   `json:"revision,omitempty"`
	Digest   fleet.Digest     `json:"digest,omitempty"`
	Reads    unit.ReadSet     `json:"reads,omitzero"`
	Items    []inventory.Item `json:"items,omitempty"`
	Images   []string         `json:"images,omitempty"`  // of the pods that were last applied
	History  []Entry          `json:"history,omitempty"` // newest first
	Pending  *fleet.Plan      `json:"pending,omitempty"`
	Granted  *Grant           `json:"granted,omitempty"`
	// Account is the ServiceAccount that what is there was last applied as; "": the
	// agent itself. It is healed and pruned as the same.
	Account string `json:"account,omitempty"`
	// Deletion is what becomes of the objects when the app goes, as it was last
	// wanted; "": as Spec has it.
	Deletion v1alpha1.DeletionPolicy `json:"deletion,omitempty"`
	// Halfway: a change was begun and not finished, so what runs is not what
	// Digest says.
	Halfway bool `json:"halfway,omitempty"`

	// Waits is what that change waits for, as far as it was written down; nil: nothing.
	Waits *Wait `json:"waits,omitempty"`

	// Made are the objects of hooks that are, or may be, on the cluster. They are
	// not healed.
	Made []inventory.Item `json:"made,omitempty"`
	Run  *hooks.Run       `json:"run,omitempty"` // of the last change that had hooks; nil: none had

	// Left are objects that were pruned by a change which is done, and take their time
	// to go: by the uids they have. They are the app's until they are gone, and are
	// neither healed nor counted. LeftSince is when the oldest was pruned of those that
	// an older agent noted, which have no date of their own.
	Left      []inventory.Item `json:"left,omitempty"`
	LeftSince time.Time        `json:"leftSince,omitzero"`

	Used []string `json:"used,omitempty"` // plans that were let through, oldest first

	// Objects are what was last applied, compressed: drift is healed from them
	// while Git is away. Use SetObjects and Applied.
	Objects []byte `json:"objects,omitempty"`
}

// Wait is what a change waits for, and since when.
type Wait struct {
	For   string    `json:"for"`
	Since time.Time `json:"since"`
}

// Grant is a plan that passed its gates and may not be done yet. It is written
// down before the plan is carried out, so that a crash in the middle does not
// ask for approval again.
type Grant struct {
	Plan   string       `json:"plan"`
	Action fleet.Action `json:"action"`
	To     fleet.Digest `json:"to"`
	By     []string     `json:"by,omitempty"`
	Apps   []string     `json:"apps,omitempty"` // of the root: Apps whose removal was confirmed
}

const (
	maxHistory = 10
	maxUsed    = 50
)

// SetObjects replaces what was last applied.
func (a *App) SetObjects(objects []unit.Object) error {
	b, err := encode(objects)
	if err != nil {
		return err
	}
	a.Objects = b
	return nil
}

// Applied gives what was last applied.
func (a *App) Applied() ([]unit.Object, error) {
	if len(a.Objects) == 0 {
		return nil, nil
	}
	var out []unit.Object
	if err := decode(a.Objects, &out); err != nil {
		return nil, fmt.Errorf("app %s: last applied objects: %w", a.Name, err)
	}
	return out, nil
}

// Entry is one thing that was applied, with the App's spec as it was then.
type Entry struct {
	fleet.HistoryEntry
	Spec json.RawMessage `json:"spec,omitempty"`
}

// Remember adds what is applied now to the history.
func (a *App) Remember(e fleet.HistoryEntry) {
	a.History = slices.Insert(slices.Clone(a.History), 0, Entry{HistoryEntry: e, Spec: a.Spec})
	if len(a.History) > maxHistory {
		a.History = a.History[:maxHistory]
	}
}

// Use notes that a plan was let through.
func (a *App) Use(plan string) {
	a.Used = append(slices.Clone(a.Used), plan)
	if n := len(a.Used) - maxUsed; n > 0 {
		a.Used = a.Used[n:]
	}
}

func secretName(n fleet.AppName) string { return "capstan-app." + n.Namespace + "." + n.Name }

// SaveApp keeps an app's state. fleet.ErrConflict: another agent wrote it.
func (s *Store) SaveApp(ctx context.Context, a App) error {
	payload, err := encode(a)
	if err != nil {
		return fmt.Errorf("app %s: %w", a.Name, err)
	}
	return s.save(ctx, secretName(a.Name), appLabels(a.Name), payload)
}

func appLabels(n fleet.AppName) map[string]string {
	return map[string]string{stateApp: n.Name, stateNamespace: n.Namespace}
}

// The labels that say of which app a Secret keeps the state.
const (
	stateApp       = "capstan.dev/state-app"
	stateNamespace = "capstan.dev/state-namespace"
)

// DeleteApp forgets an app that owns nothing any more.
func (s *Store) DeleteApp(ctx context.Context, n fleet.AppName) error {
	name := secretName(n)
	if err := s.delete(ctx, name); err != nil {
		return err
	}
	s.mu.Lock()
	s.stale[name] = append(s.stale[name], s.parts[name]...)
	delete(s.parts, name)
	s.mu.Unlock()
	return s.sweep(ctx, name)
}

// LoadApps reads the state of every app. A Secret that can't be read is an
// error: going on without it would forget what is owned.
func (s *Store) LoadApps(ctx context.Context) ([]App, error) {
	parts, err := s.loadParts(ctx)
	if err != nil {
		return nil, err
	}
	payloads := contents(parts)
	var apps []App
	opts := metav1.ListOptions{LabelSelector: kindLabel + "=" + kindApp, Limit: 50}
	for {
		list, err := s.secrets.List(ctx, opts)
		if err != nil {
			return nil, fmt.Errorf("state of the apps: %w", err)
		}
		for i := range list.Items {
			head := &list.Items[i]
			s.remember(head)
			var a App
			if err := decodeHead(head, payloads, &a); err != nil {
				return nil, err
			}
			if names := head.Data[partsKey]; names != nil {
				var refs []string
				if err := json.Unmarshal(names, &refs); err != nil {
					return nil, err
				}
				s.mu.Lock()
				s.parts[head.Name] = refs
				s.mu.Unlock()
			}
			apps = append(apps, a)
		}
		if list.Continue == "" {
			s.leftovers(ctx, parts)
			return apps, nil
		}
		opts.Continue = list.Continue
	}
}

// longGone is how old a part without a head is when it is deleted: much older than
// an agent that lost the Lease could be about to write its head.
const longGone = time.Hour

// leftovers notes the parts that no head refers to, which a crash has left: they
// go when their app is written next, and with them those of apps that are gone.
func (s *Store) leftovers(ctx context.Context, parts map[string]*corev1.Secret) {
	for name, part := range parts {
		head := secretName(fleet.AppName{Namespace: part.Labels[stateNamespace], Name: part.Labels[stateApp]})
		s.mu.Lock()
		referred := slices.Contains(s.parts[head], name)
		_, there := s.versions[head]
		s.mu.Unlock()
		switch {
		case referred:
		case there || time.Since(part.CreationTimestamp.Time) < longGone:
			s.leave(head, name)
		default:
			_ = s.delete(ctx, name) // the next start tries again
		}
	}
}

func contents(parts map[string]*corev1.Secret) map[string][]byte {
	out := make(map[string][]byte, len(parts))
	for name, part := range parts {
		out[name] = part.Data[payloadKey]
	}
	return out
}

func (s *Store) loadParts(ctx context.Context) (map[string]*corev1.Secret, error) {
	list, err := s.secrets.List(ctx, metav1.ListOptions{LabelSelector: kindLabel + "=" + kindPart})
	if err != nil {
		return nil, fmt.Errorf("state of the apps: %w", err)
	}
	out := make(map[string]*corev1.Secret, len(list.Items))
	for i := range list.Items {
		s.remember(&list.Items[i])
		out[list.Items[i].Name] = &list.Items[i]
	}
	return out, nil
}
