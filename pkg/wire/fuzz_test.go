package wire_test

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/capstan-gitops/capstan/pkg/wire"
)

// What decodes can be encoded again, and means the same then.
func FuzzDecode(f *testing.F) {
	for _, m := range samples {
		data, err := wire.Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"v":1,"kind":"report","body":{"epoch":1,"seq":1,"gone":{"namespace":"a","name":"b"}}}`))
	f.Add([]byte(`{"v":1,"kind":"failure","body":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, decode := range decoders {
			m, err := decode(data)
			if err != nil {
				continue
			}
			if err := m.Validate(); err != nil {
				t.Errorf("%T was let through: %v", m, err)
			}
			if len(data) > m.Limit() {
				t.Errorf("%T of %d bytes was let through", m, len(data))
			}
		}
	})
}

func FuzzParseUp(f *testing.F) {
	f.Add("up.dev.status.shop.web")
	f.Add("up.dev.hb")
	f.Add("up.*.>")
	f.Fuzz(func(t *testing.T, subject string) {
		u, err := wire.ParseUp(subject)
		if err != nil {
			return
		}
		if u.Verb == wire.VerbStatus && wire.StatusSubject(u.Cluster, u.App) != subject {
			t.Errorf("%q was read as %+v", subject, u)
		}
	})
}

func FuzzParseJoinToken(f *testing.F) {
	f.Add("e30")
	if s, err := (wire.JoinToken{URLs: []string{"nats://h:1"}, Cluster: "c", Join: "j", Instance: "i", JWT: "e", Seed: "S"}).Encode(); err == nil {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		token, err := wire.ParseJoinToken(s)
		if err == nil && (token.Cluster == "" || len(token.URLs) == 0) {
			t.Errorf("%q was let through", s)
		}
	})
}

// What is refused for a key that is there twice has one, and what has one is
// refused.
func FuzzKeysTwice(f *testing.F) {
	for _, body := range []string{`"a":1,"b":{"a":2}`, `"a":1,"a":2`, `"a":1,"\u0061":2`, `"x":[{"k":1},{"k":1}]`, `"x":["k","k"]`, `"x":{"k":"k,","l":",\"k"}`, `"":0,"":0`} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		body = "{" + body + "}"
		if !json.Valid([]byte(body)) || !utf8.ValidString(body) || len(body) > 2000 {
			return
		}
		_, err := wire.Decode[wire.IntentGet]([]byte(`{"v":1,"kind":"intent-get","body":` + body + `}`))
		if err != nil && strings.Contains(err.Error(), "nested") {
			return
		}
		if twice := twice(t, body); twice != (err != nil) {
			t.Errorf("%s: twice is %v, got %v", body, twice, err)
		}
	})
}

// twice looks for objects that have a key twice, with the library's tokens.
func twice(t *testing.T, text string) bool {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	var open []map[string]bool // nil: an array
	isKey := false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
		key, isString := token.(string)
		if isKey && isString && open[len(open)-1] != nil {
			if open[len(open)-1][key] {
				return true
			}
			open[len(open)-1][key] = true
			isKey = false
			continue
		}
		switch token {
		case json.Delim('{'):
			open = append(open, map[string]bool{})
		case json.Delim('['):
			open = append(open, nil)
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		}
		isKey = len(open) > 0 && open[len(open)-1] != nil
	}
}
