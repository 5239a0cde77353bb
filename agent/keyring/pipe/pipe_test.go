package pipe_test

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/keyring/pipe"
	"github.com/capstan-gitops/capstan/agent/unit"
)

func TestWhatIsSaidIsUnderstood(t *testing.T) {
	var b bytes.Buffer
	q := pipe.Request{ID: 7, Timeout: time.Second, Key: pipe.Key{
		Kind: unit.KeyAWS, Resource: "arn", Role: "r", Profile: "p", Context: map[string]string{"a": "b"}, Ciphertext: []byte{0, 255},
	}}
	a := pipe.Answer{ID: 7, DataKey: []byte{1, 2}, Final: true}
	if err := errors.Join(pipe.Write(&b, q), pipe.Write(&b, a)); err != nil {
		t.Fatal(err)
	}
	var gotQ pipe.Request
	var gotA pipe.Answer
	if err := errors.Join(pipe.Read(&b, &gotQ), pipe.Read(&b, &gotA)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(q, gotQ) || !reflect.DeepEqual(a, gotA) {
		t.Errorf("got %+v, %+v", gotQ, gotA)
	}
	if err := pipe.Read(&b, &gotA); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func TestWhatIsNotSaidSoIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"a huge frame":     "\xff\xff\xff\xff{}",
		"half a frame":     "\x00\x00\x00\x09{}",
		"no JSON":          "\x00\x00\x00\x02xx",
		"two values":       "\x00\x00\x00\x04{}{}",
		"an unknown field": "\x00\x00\x00\x07{\"x\":1}",
		"half a head":      "\x00\x00",
	} {
		var a pipe.Answer
		if err := pipe.Read(strings.NewReader(text), &a); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := pipe.Write(io.Discard, pipe.Answer{Message: strings.Repeat("x", pipe.MaxFrame)}); !errors.Is(err, pipe.ErrFrame) {
		t.Errorf("a huge answer is written: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	if err := pipe.Write(&b, pipe.Answer{ID: 1, DataKey: []byte("k"), Message: "m"}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, said []byte) {
		var a pipe.Answer
		if err := pipe.Read(bytes.NewReader(said), &a); err == nil && len(a.DataKey) > len(said) {
			t.Errorf("%d bytes of %d", len(a.DataKey), len(said))
		}
	})
}
