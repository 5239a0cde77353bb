package state

import (
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A write whose answer does not come back may have been carried out. The next
// one then meets a version that is not known, as if another agent wrote. So what
// was sent is remembered until an answer comes: if it is what is kept, the version
// is ours.

// sum stands for what a Secret holds.
type sum [sha256.Size]byte

// gone stands for a Secret that is not there.
var gone sum

func sumOf(d data) (s sum) {
	h := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(d)) {
		content := sha256.Sum256(d[key])
		h.Write([]byte(key + "\x00"))
		h.Write(content[:])
	}
	return sum(h.Sum(nil))
}

// doubtIf notes what may be kept now, after an error that says nothing of whether
// the request was carried out: no answer came, or that of a server that could not
// tell either.
func (s *Store) doubtIf(err error, name string, sent sum) {
	var answer apierrors.APIStatus
	if errors.As(err, &answer) && answer.Status().Code < http.StatusInternalServerError {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.doubt[name], sent) {
		s.doubt[name] = append(s.doubt[name], sent)
	}
}

// isOurs tells whether what is kept under a name is something that was sent
// without hearing of it. Its version is known then.
func (s *Store) isOurs(ctx context.Context, name string) bool {
	s.mu.Lock()
	sent := s.doubt[name]
	s.mu.Unlock()
	if len(sent) == 0 {
		return false
	}
	kept, err := s.secrets.Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err) && slices.Contains(sent, gone):
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.versions, name)
		delete(s.doubt, name)
		return true
	case err != nil || !slices.Contains(sent, sumOf(kept.Data)):
		return false
	}
	s.remember(kept)
	return true
}
