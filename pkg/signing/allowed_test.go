package signing_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/signing"
)

const (
	keyA = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1kZ6tqvUGtC1jnhGMSeaBzQ0sSDmKqkDtzo0i4Wkq2"
	keyB = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBx2mxM4Ig5YdRIDi0yUMbR0TqkVmw3Bj4Yu6lCZ1Cz3"
	keyC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN7mN0bHf6tCG4nQ9mGqPvFzqY9oH1wZ3vJb2Y3l4c5x"
)

func parse(t testing.TB, text string) *signing.AllowedSigners {
	t.Helper()
	a, err := signing.ParseAllowedSigners("allowed_signers", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAllowedSignersNameWhoMaySign(t *testing.T) {
	a := parse(t, "# the approvers\n\nalice@example.com,alice "+keyA+" laptop\r\n"+
		`"bob@example.com" namespaces="capstan-approval,git",valid-after=20240101,valid-before="20300101120000Z" `+keyB+"\n")
	if got, want := a.Principals(), []string{"alice", "alice@example.com", "bob@example.com"}; !slices.Equal(got, want) {
		t.Errorf("principals %q, want %q", got, want)
	}
	for public, want := range map[string][]string{keyA: {"alice", "alice@example.com"}, keyB: {"bob@example.com"}, keyC: nil} {
		got, err := a.Lookup(public)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("key is pinned for %q (%v), want %q", got, err, want)
		}
	}
}

func TestAllowedSignersRefuse(t *testing.T) {
	for _, test := range []struct{ name, line, want string }{
		{"a wildcard", "*@example.com " + keyA, "wildcard"},
		{"a question mark", "alic? " + keyA, "wildcard"},
		{"a negation", "!alice " + keyA, "wildcard"},
		{"a certificate authority", "alice cert-authority " + keyA, "cert-authority is not supported"},
		{"an option nobody knows", "alice touch-required " + keyA, `option "touch-required" is not known`},
		{"an option without its value", "alice valid-after " + keyA, `option "valid-after" is not known`},
		{"an option given twice", "alice valid-after=20240101,valid-after=20250101 " + keyA, "twice"},
		{"a bad time", "alice valid-before=tomorrow " + keyA, `time "tomorrow"`},
		{"a time span that never is", "alice valid-after=20250101,valid-before=20240101 " + keyA, "never count"},
		{"a wildcard namespace", `alice namespaces="*" ` + keyA, "without wildcards"},
		{"no key", "alice", "no public key"},
		{"a key that is none", "alice ssh-ed25519 AAAA", "can't be read"},
		{"an empty principal", "alice,, " + keyA, "principal is empty"},
		{"an open quote", `"alice ` + keyA, "quote"},
		{"a DSA key type", "alice ssh-dss AAAAB3NzaC1kc3M= x", "keys of type ssh-dss are not accepted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := signing.ParseAllowedSigners("etc/signers", []byte("# first line\n"+test.line+"\n"))
			if !errors.Is(err, fleet.ErrInvalid) || !strings.HasPrefix(err.Error(), "etc/signers:2: ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want etc/signers:2: ...%s...", err, test.want)
			}
		})
	}
}

func TestPrincipalsThatShareAKeyAreOnePerson(t *testing.T) {
	a := parse(t, "carol,bob "+keyA+"\nbob,alice "+keyB+"\ndave "+keyC+"\n")
	for principal, want := range map[string]string{"alice": "alice", "bob": "alice", "carol": "alice", "dave": "dave", "eve": "eve"} {
		if got := a.Person(principal); got != want {
			t.Errorf("%s is %s, want %s", principal, got, want)
		}
	}
}

func FuzzParseAllowedSigners(f *testing.F) {
	f.Add("alice " + keyA)
	f.Add(`"a b",c namespaces="x,y",valid-before=20240101Z ` + keyB + " comment")
	f.Add("alice cert-authority " + keyA + "\n#\n\n,")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := signing.ParseAllowedSigners("f", []byte(text))
		if err != nil {
			return
		}
		for _, p := range a.Principals() {
			if p == "" || strings.ContainsAny(p, "*?!") {
				t.Errorf("principal %q got through", p)
			}
			if person := a.Person(p); a.Person(person) != person {
				t.Errorf("person of %q is %q, who is %q", p, person, a.Person(person))
			}
		}
	})
}
