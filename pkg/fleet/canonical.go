package fleet

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
)

// Canonical encodes v as the one JSON text all sides agree on: object keys
// sorted, no white space, no HTML escapes, numbers as they were written.
// v may itself be JSON (json.RawMessage or []byte).
func Canonical(v any) ([]byte, error) {
	raw, ok := v.([]byte)
	if m, is := v.(json.RawMessage); is {
		raw, ok = m, true
	}
	if !ok {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		raw = b
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("more than one JSON value")
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(tree); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// Digest identifies the content of a Document: "sha256:" and 64 hex digits.
// Gates, history and approvals key on it.
type Digest string

// NoDigest is the digest of "nothing is applied", and of "nothing is wanted".
const NoDigest Digest = ""

// Short abbreviates the digest to 12 hex digits, for people.
func (d Digest) Short() string {
	const n = len("sha256:") + 12
	if len(d) <= n {
		return string(d)
	}
	return string(d[:n])
}

// Document is all that decides what an app puts on a cluster, in a form that
// may leave the spoke: every value of a Secret is replaced by an HMAC under a
// key that stays there, so equal values can be seen to be equal, and nothing more.
type Document struct {
	Spec    json.RawMessage   `json:"spec"`    // the effective App spec
	RepoURL string            `json:"repoURL"` // where it came from
	Objects []json.RawMessage `json:"objects"` // masked, in the order of ObjectRef.Compare
}

// Digest hashes the document's canonical form.
func (d Document) Digest() (Digest, error) {
	b, err := Canonical(d)
	if err != nil {
		return "", fmt.Errorf("document: %w", err)
	}
	sum := sha256.Sum256(b)
	return Digest("sha256:" + hex.EncodeToString(sum[:])), nil
}
