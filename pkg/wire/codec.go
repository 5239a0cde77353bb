package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Version of the envelope, and of what the kinds mean.
const Version = 1

// Kind names what a body is.
type Kind string

// Message is a body that may travel. The methods are on values, so that the
// zero value says what is expected.
type Message interface {
	Kind() Kind
	// Limit is the most bytes the encoded message may have.
	Limit() int
	// Validate checks the form of what a stranger wrote. The error is ErrInvalid.
	Validate() error
}

type envelope struct {
	V    int             `json:"v"`
	Kind Kind            `json:"kind"`
	Body json.RawMessage `json:"body"`
}

// Encode puts a message into its envelope. The error is ErrInvalid where the
// message is over its limit or not valid: the other side would refuse it.
func Encode(m Message) ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", m.Kind(), err)
	}
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.Kind(), err)
	}
	out, err := json.Marshal(envelope{V: Version, Kind: m.Kind(), Body: body})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.Kind(), err)
	}
	if len(out) > m.Limit() {
		return nil, fleet.Invalid("%s: %d bytes, the limit is %d", m.Kind(), len(out), m.Limit())
	}
	return out, nil
}

// Decode reads a message of kind M. A Failure in its place is returned as the
// error it carries; every other error is ErrInvalid.
func Decode[M Message](data []byte) (M, error) {
	var m M
	limit := m.Limit()
	if isFailure := len(data) <= failureLimit; !isFailure && len(data) > limit {
		return m, fleet.Invalid("%s: %d bytes, the limit is %d", m.Kind(), len(data), limit)
	}
	env, err := open(data)
	if err != nil {
		return m, fmt.Errorf("%s: %w", m.Kind(), err)
	}
	if env.Kind == (Failure{}).Kind() && m.Kind() != env.Kind {
		f, err := body[Failure](env)
		if err != nil {
			return m, err
		}
		return m, f.Err()
	}
	if env.Kind != m.Kind() {
		return m, fleet.Invalid("got a %q message, expected %q", clip(string(env.Kind)), m.Kind())
	}
	if len(data) > limit {
		return m, fleet.Invalid("%s: %d bytes, the limit is %d", m.Kind(), len(data), limit)
	}
	return body[M](env)
}

func body[M Message](env envelope) (M, error) {
	var m, none M
	if err := json.Unmarshal(env.Body, &m); err != nil {
		return none, fleet.Invalid("%s: %w", env.Kind, shape(err))
	}
	if err := m.Validate(); err != nil {
		return none, fmt.Errorf("%s: %w", env.Kind, err)
	}
	return m, nil
}

func open(data []byte) (envelope, error) {
	if !utf8.Valid(data) {
		return envelope{}, fleet.Invalid("not UTF-8")
	}
	if err := checkShape(data); err != nil {
		return envelope{}, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var env envelope
	if err := d.Decode(&env); err != nil {
		return envelope{}, fleet.Invalid("not an envelope: %w", shape(err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return envelope{}, fleet.Invalid("more than one value")
	}
	if env.V != Version {
		return envelope{}, fleet.WithHint(fleet.Invalid("version %d of the protocol is not known, this is version %d", env.V, Version),
			"agent and hub are too far apart: bring them to the same release")
	}
	if len(env.Body) == 0 || env.Body[0] != '{' {
		return envelope{}, fleet.Invalid("the body is not an object")
	}
	return env, nil
}

// shape tells where a value is wrong, and leaves the value out.
func shape(err error) error {
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("field %q is a %s", t.Field, clip(t.Value))
	}
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("not JSON at byte %d", s.Offset)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("cut short")
	}
	return errors.New(clip(err.Error()))
}

func clip(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
