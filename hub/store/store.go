// Package store keeps what the hub must not forget: small documents in
// buckets, and a log of who changed what.
//
// Two implementations keep the same promises, which storetest states as tests:
// KV on JetStream, and Memory.
package store

import (
	"context"
	"regexp"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// The hub's buckets.
const (
	Intent    = "intent"    // cluster -> what people want of it
	Status    = "status"    // cluster.namespace.app -> the last report
	Clusters  = "clusters"  // cluster -> its agent's key and its last heartbeat
	Joins     = "joins"     // join id -> a join token's state; forgotten after JoinLife
	Approvals = "approvals" // id -> a signed approval
	Notified  = "notified"  // cluster, or cluster.namespace.app -> what was told of it
	Revoked   = "revoked"   // agent's key -> until when what was issued for it is worthless
	Leases    = "leases"    // what is to be done by one hub alone -> the hub that does it; see Lead
	Tokens    = "tokens"    // name -> a service token's hash, and what it may do
)

// Store opens buckets and the log.
type Store interface {
	// Bucket is one of the constants above; another name panics.
	Bucket(name string) Bucket
	// Log has who changed what; nothing is taken out of it before its time.
	Log() Log
	// Changes has what changed on the clusters: of each topic the newest
	// MaxChanges.
	Changes() Log
}

// Bucket holds documents by key. A key is one to four DNS labels with dots
// between them. Every method may return ErrUnavailable.
type Bucket interface {
	// Get reads a document and its version. ErrNotFound: it is not there.
	Get(ctx context.Context, key string) (value []byte, version uint64, err error)
	// Put writes a document whose version is still the given one, 0 meaning that
	// it is not there, and returns the new version. ErrConflict: somebody else
	// was first. ErrInvalid: the key or the size.
	Put(ctx context.Context, key string, value []byte, version uint64) (uint64, error)
	// Delete removes a document; one that is not there is no error.
	Delete(ctx context.Context, key string) error
	// DeleteIf is Delete where the version is still the given one. ErrConflict:
	// there is another.
	DeleteIf(ctx context.Context, key string, version uint64) error
	// All calls each with every document, in no order, and stops at its error.
	All(ctx context.Context, each func(key string, value []byte, version uint64) error) error
	// Follow calls each with every document, in no order, then once with no key,
	// and from then on with what changes, until ctx ends or at each's error, which
	// it returns. No value: the document was deleted. Of one that changes quickly
	// the newest version alone may be seen. Where the store can't be reached for a
	// while it goes on afterwards, and nothing is missed.
	Follow(ctx context.Context, each func(key string, value []byte, version uint64) error) error
}

// Log takes entries that are never changed.
type Log interface {
	// Append adds an entry below a topic (a DNS label).
	Append(ctx context.Context, topic string, entry []byte) error
	// Read calls each with the entries below any of the topics (none: all) in
	// their order, until it returns false or all that were there are read: those
	// after a sequence number, or where that is 0 those appended since a time.
	Read(ctx context.Context, topics []string, after uint64, since time.Time, each func(seq uint64, entry []byte) (bool, error)) error
	// Last returns up to n entries, oldest first.
	Last(ctx context.Context, n int) ([][]byte, error)
}

// MaxChanges is how many entries of Changes are kept of a topic.
const MaxChanges = 100

// MaxValue is the most bytes a document may have.
const MaxValue = 512 << 10

var keyForm = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?){0,3}$`)

func checkKey(bucket, key string) error {
	if !keyForm.MatchString(key) {
		return fleet.Invalid("%s: key %q is not valid", bucket, key)
	}
	return nil
}

func checkPut(bucket, key string, value []byte) error {
	if err := checkKey(bucket, key); err != nil {
		return err
	}
	if len(value) == 0 || len(value) > MaxValue {
		return fleet.Invalid("%s: %s takes %d bytes, between 1 and %d are allowed", bucket, key, len(value), MaxValue)
	}
	return nil
}
