// Package state keeps what a spoke must not forget, in Secrets of the agent's
// own namespace: for each app its inventory, what was last applied and what it
// was rendered from; for the agent its keys and its last intent.
//
// Only the agent that holds the Lease writes. Every write is compare-and-swap:
// an agent that lost the Lease without noticing gets fleet.ErrConflict, and
// must end.
package state

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// kindLabel tells the agent's Secrets from others in its namespace.
const kindLabel = "capstan.dev/state"

const (
	kindApp  = "app"
	kindPart = "part"
	kindSelf = "agent"
)

// Store reads and writes the Secrets.
type Store struct {
	secrets  typedcorev1.SecretInterface
	partSize int

	mu       sync.Mutex
	versions map[string]string   // Secret name -> resourceVersion we wrote or read
	parts    map[string][]string // head -> the parts it refers to
	stale    map[string][]string // head -> parts that are there, and that it may not refer to
	doubt    map[string][]sum    // Secret name -> what was sent, and may be kept
	failing  map[string]error    // Secrets that could not be written when last it was tried
}

// data is what a Secret holds.
type data = map[string][]byte

// PartSize bounds a Secret's payload: etcd takes 1.5 MiB at most, a Secret 1 MiB.
const PartSize = 900 << 10

// New makes a Store in a namespace.
func New(cfg *rest.Config, namespace string) (*Store, error) {
	core, err := typedcorev1.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	return &Store{
		secrets:  core.Secrets(namespace),
		partSize: PartSize,
		versions: map[string]string{},
		parts:    map[string][]string{},
		stale:    map[string][]string{},
		doubt:    map[string][]sum{},
		failing:  map[string]error{},
	}, nil
}

const (
	payloadKey = "payload"
	partsKey   = "parts"
)

// Load reads the value kept under name into v. It tells whether there was one.
func (s *Store) Load(ctx context.Context, name string, v any) (bool, error) {
	secret, err := s.secrets.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("secret %s: %w", name, err)
	}
	s.remember(secret)
	return true, decodeHead(secret, nil, v)
}

// Save keeps v under name. fleet.ErrConflict: somebody else wrote it since.
func (s *Store) Save(ctx context.Context, name string, v any) error {
	payload, err := encode(v)
	if err != nil {
		return err
	}
	return s.write(ctx, name, kindSelf, nil, map[string][]byte{payloadKey: payload})
}

// write creates the Secret, or replaces the version we know. Where a write before
// it was in doubt, and turns out to be what is kept, that is the version.
func (s *Store) write(ctx context.Context, name, kind string, labels map[string]string, payload data) error {
	err := s.put(ctx, name, kind, labels, payload)
	if errors.Is(err, fleet.ErrConflict) && s.isOurs(ctx, name) {
		err = s.put(ctx, name, kind, labels, payload)
	}
	return err
}

func (s *Store) put(ctx context.Context, name, kind string, labels map[string]string, payload data) error {
	all := map[string]string{kindLabel: kind}
	maps.Copy(all, labels)
	s.mu.Lock()
	version := s.versions[name]
	s.mu.Unlock()
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: all, ResourceVersion: version},
		Type:       "capstan.dev/state",
		Data:       payload,
	}
	var err error
	if version == "" {
		secret, err = s.secrets.Create(ctx, secret, metav1.CreateOptions{})
	} else {
		secret, err = s.secrets.Update(ctx, secret, metav1.UpdateOptions{})
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || version != "" && apierrors.IsNotFound(err) {
		return changedByOther(name)
	}
	if err != nil {
		s.doubtIf(err, name, sumOf(payload))
		err = fmt.Errorf("secret %s: %w", name, err)
		s.failed(ctx, name, err)
		return err
	}
	s.remember(secret)
	return nil
}

// failed notes that a Secret could not be written. That somebody asked to end is
// no failure.
func (s *Store) failed(ctx context.Context, name string, err error) {
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing[name] = err
}

// Failing says what can't be written: the last try to failed.
func (s *Store) Failing() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.failing)) {
		return fmt.Errorf("the state can't be written: %w", s.failing[name])
	}
	return nil
}

func changedByOther(name string) error {
	return fleet.WithHint(fleet.Conflict("secret %s was changed by somebody else", name),
		"only one agent may run on a cluster: look for a second one, or for a person who edits its Secrets")
}

func (s *Store) remember(secret *corev1.Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions[secret.Name] = secret.ResourceVersion
	delete(s.doubt, secret.Name)
	delete(s.failing, secret.Name)
}

// delete removes the version of the Secret that we know; one that is gone
// already is fine. fleet.ErrConflict: another agent wrote it since.
func (s *Store) delete(ctx context.Context, name string) error {
	err := s.drop(ctx, name)
	if errors.Is(err, fleet.ErrConflict) && s.isOurs(ctx, name) {
		err = s.drop(ctx, name)
	}
	return err
}

func (s *Store) drop(ctx context.Context, name string) error {
	s.mu.Lock()
	version := s.versions[name]
	s.mu.Unlock()
	var opts metav1.DeleteOptions
	if version != "" {
		opts.Preconditions = &metav1.Preconditions{ResourceVersion: &version}
	}
	err := s.secrets.Delete(ctx, name, opts)
	if apierrors.IsConflict(err) {
		return changedByOther(name)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		s.doubtIf(err, name, gone)
		err = fmt.Errorf("secret %s: %w", name, err)
		s.failed(ctx, name, err)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.versions, name)
	delete(s.doubt, name)
	delete(s.failing, name)
	return nil
}

// writers are kept for reuse: each holds more than a megabyte of tables.
var writers = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is a known one
	return z
}}

// encode compresses a value's JSON.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	z, _ := writers.Get().(*gzip.Writer)
	defer writers.Put(z)
	z.Reset(&b)
	if err := json.NewEncoder(z).Encode(v); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// maxState bounds what a payload may expand to: the Secrets are ours, but
// nothing else in the namespace need be.
const maxState = 256 << 20

func decode(payload []byte, v any) error {
	z, err := gzip.NewReader(bytes.NewReader(payload))
	if err != nil {
		return err
	}
	return json.NewDecoder(io.LimitReader(z, maxState)).Decode(v)
}

// decodeHead joins a head's parts, where it has any, and decodes them.
func decodeHead(head *corev1.Secret, parts map[string][]byte, v any) error {
	payload := head.Data[payloadKey]
	if list := head.Data[partsKey]; list != nil {
		var names []string
		if err := json.Unmarshal(list, &names); err != nil {
			return fmt.Errorf("secret %s: %w", head.Name, err)
		}
		payload = nil
		for _, n := range names {
			part, ok := parts[n]
			if !ok {
				return fmt.Errorf("secret %s refers to %s, which is not there", head.Name, n)
			}
			payload = append(payload, part...)
		}
	}
	if err := decode(payload, v); err != nil {
		return fmt.Errorf("secret %s: %w", head.Name, err)
	}
	return nil
}

// save writes a payload of any size: parts first, under names made from their
// content, then the head that refers to them, then away with the parts that it
// no longer refers to. A crash in between leaves the old head with its parts; what
// else it leaves goes with the next save, and not before: until then the head may
// be another agent's, who is about to refer to it.
func (s *Store) save(ctx context.Context, name string, labels map[string]string, payload []byte) error {
	s.mu.Lock()
	before := s.parts[name]
	s.mu.Unlock()
	whole := data{payloadKey: payload}
	var parts []string
	if len(payload) > s.partSize {
		for i, chunk := range slices.Collect(slices.Chunk(payload, s.partSize)) {
			sum := sha256.Sum256(chunk)
			part := fmt.Sprintf("%s.%d-%s", name, i, hex.EncodeToString(sum[:6]))
			if !slices.Contains(before, part) {
				s.leave(name, part)
				if err := s.write(ctx, part, kindPart, labels, map[string][]byte{payloadKey: chunk}); err != nil {
					return err
				}
			}
			parts = append(parts, part)
		}
		list, err := json.Marshal(parts)
		if err != nil {
			return err
		}
		whole = data{partsKey: list}
	}
	if err := s.write(ctx, name, kindApp, labels, whole); err != nil {
		return err
	}
	s.mu.Lock()
	old := append(slices.Clone(before), s.stale[name]...)
	s.parts[name], s.stale[name] = parts, slices.DeleteFunc(old, func(p string) bool { return slices.Contains(parts, p) })
	s.mu.Unlock()
	return s.sweep(ctx, name)
}

// leave notes a part that its head may not refer to.
func (s *Store) leave(head, part string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.stale[head], part) {
		s.stale[head] = append(s.stale[head], part)
	}
}

// sweep deletes the parts that a head does not refer to.
func (s *Store) sweep(ctx context.Context, head string) error {
	s.mu.Lock()
	old := s.stale[head]
	s.mu.Unlock()
	for _, part := range old {
		if err := s.delete(ctx, part); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.stale, head)
	return nil
}
