// Package pipe is what the agent and capstan-keys say to each other: frames of
// JSON with a length. The agent sends requests, several at a time; capstan-keys
// says its version first, and then answers them in any order.
package pipe

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// Version of what is said. Both sides are of one release.
const Version = 1

// Bounds of what is said.
const (
	MaxFrame      = 256 << 10 // bytes of one frame
	MaxCiphertext = 16 << 10  // bytes of a data key as it is encrypted
	MaxDataKey    = 64        // bytes of a data key, or of a share of one
	MaxRequests   = 16        // at the same time
)

// ErrFrame is in every error about a frame that is not as it must be.
var ErrFrame = errors.New("malformed frame")

// Hello is the first frame of capstan-keys.
type Hello struct {
	Version int `json:"version"`
}

// Key is one that a data key is to be decrypted with. The parent has found it in
// the configuration of the spoke.
type Key struct {
	Kind unit.KeyKind `json:"kind"`
	// Resource is the ARN, the resource id, or the address of the vault.
	Resource string `json:"resource"`
	Engine   string `json:"engine,omitempty"`  // Vault's
	Name     string `json:"name,omitempty"`    // Azure's and Vault's
	Version  string `json:"version,omitempty"` // Azure's
	Role     string `json:"role,omitempty"`    // AWS': to assume before
	Profile  string `json:"profile,omitempty"` // AWS'
	// Context is AWS' encryption context: what the ciphertext is bound to.
	Context    map[string]string `json:"context,omitempty"`
	Ciphertext []byte            `json:"ciphertext"`
}

// String names the key, in messages.
func (k Key) String() string {
	name := string(k.Kind) + " " + k.Resource
	if k.Engine != "" {
		name += "/" + k.Engine
	}
	if k.Name != "" {
		name += "/" + k.Name
	}
	return name
}

// Request has a data key decrypted.
type Request struct {
	ID      uint64        `json:"id"`      // not used before
	Timeout time.Duration `json:"timeout"` // after it nobody waits for an answer
	Key     Key           `json:"key"`
}

// Answer is one to a request: the data key, or why there is none.
type Answer struct {
	ID      uint64 `json:"id"`
	DataKey []byte `json:"dataKey,omitempty"`
	Message string `json:"message,omitempty"`
	Hint    string `json:"hint,omitempty"`
	// Final says that asking again gives no other answer: the ciphertext is not
	// of that key.
	Final bool `json:"final,omitempty"`
}

// Write writes one frame.
func Write(w io.Writer, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	if len(b) > MaxFrame {
		return fmt.Errorf("%w: %d bytes", ErrFrame, len(b))
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b))), b...))
	return err
}

// Read reads one frame into body. It fails with io.EOF only between frames.
func Read(r io.Reader, body any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return fmt.Errorf("%w: %d bytes", ErrFrame, n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(body); err != nil {
		return ErrFrame // the decoder's words may quote what was said
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return ErrFrame
	}
	return nil
}
