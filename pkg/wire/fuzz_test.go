package wire_test

import (
	"testing"

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
