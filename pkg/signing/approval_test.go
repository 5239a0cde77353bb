package signing_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/signing"
)

var now = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func approval() fleet.Approval {
	return fleet.Approval{
		Action:    fleet.ActionApply,
		App:       "shop/guestbook",
		Targets:   []fleet.Target{{ClusterUID: "uid-prod", Cluster: "prod", To: "sha256:bb", Plan: "p1"}},
		Approver:  "alice",
		Comment:   "looks <right>",
		NotBefore: now.Add(-time.Minute),
		Expires:   now.Add(time.Hour),
	}
}

func signed(t testing.TB, a fleet.Approval, key *signing.Key) fleet.SignedApproval {
	t.Helper()
	s, err := signing.SignApproval(a, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestApprovalsComeBackAsTheyWereSigned(t *testing.T) {
	key := loadKey(t, newKeyFile(t, "ed25519", "", ""))
	allowed := parse(t, "alice "+key.Public())
	want := approval()
	got, signer, err := signing.VerifyApproval(signed(t, want, key), allowed, now)
	if err != nil {
		t.Fatal(err)
	}
	if got.Comment != want.Comment || got.Targets[0] != want.Targets[0] || !got.Expires.Equal(want.Expires) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if signer != (signing.Signer{Principal: "alice", Fingerprint: key.Fingerprint()}) {
		t.Errorf("signer %+v", signer)
	}
}

func TestApprovalsMadeBySSHKeygenCount(t *testing.T) {
	path := newKeyFile(t, "ed25519", "", "")
	key := loadKey(t, path)
	statement := signed(t, approval(), key).Statement
	file := writeFile(t, "statement", string(statement))
	run(t, nil, "ssh-keygen", "-q", "-Y", "sign", "-f", path, "-n", fleet.ApprovalNamespace, file)
	armored := run(t, nil, "cat", file+".sig")
	s := fleet.SignedApproval{Statement: statement, Signature: armored}
	if _, _, err := signing.VerifyApproval(s, parse(t, "alice "+key.Public()), now); err != nil {
		t.Error(err)
	}
}

func TestApprovalsAreRefused(t *testing.T) {
	alice, mallory := loadKey(t, newKeyFile(t, "ed25519", "", "")), loadKey(t, newKeyFile(t, "ed25519", "", ""))
	pinned := "alice " + alice.Public() + "\nbob " + mallory.Public()
	good := signed(t, approval(), alice)
	change := func(f func(*fleet.Approval)) fleet.SignedApproval {
		a := approval()
		f(&a)
		return signed(t, a, alice)
	}
	resign := func(statement []byte, namespace string) fleet.SignedApproval {
		signature, err := alice.Sign(namespace, statement)
		if err != nil {
			t.Fatal(err)
		}
		return fleet.SignedApproval{Statement: statement, Signature: signature}
	}
	edit := func(old, new string) []byte { return bytes.Replace(good.Statement, []byte(old), []byte(new), 1) }

	for _, test := range []struct {
		name    string
		s       fleet.SignedApproval
		allowed string
		want    error
		text    string
	}{
		{"unsigned", fleet.SignedApproval{Statement: good.Statement}, pinned, signing.ErrUnsigned, "it is not signed"},
		{"altered", fleet.SignedApproval{Statement: edit("prod", "test"), Signature: good.Signature}, pinned, signing.ErrBadSignature, "does not match"},
		{"a key nobody pinned", good, "bob " + mallory.Public(), signing.ErrNotPinned, alice.Fingerprint() + " is not pinned"},
		{"nobody pinned at all", good, "", signing.ErrNotPinned, "is not pinned"},
		{"somebody else's name", signed(t, approval(), mallory), pinned, signing.ErrOtherPerson, "is pinned for bob, not for alice"},
		{"another namespace", resign(good.Statement, "git"), pinned, signing.ErrWrongNamespace, `made for "git"`},
		{"a key for another namespace", good, `alice namespaces="git" ` + alice.Public(), signing.ErrWrongNamespace, "namespaces git only"},
		{"a key not valid yet", good, "alice valid-after=20260505 " + alice.Public(), signing.ErrKeyNotValid, "valid from 2026-05-05"},
		{"a key not valid any more", good, "alice valid-before=20260504120000Z " + alice.Public(), signing.ErrKeyNotValid, "valid until 2026-05-04"},
		{"expired", change(func(a *fleet.Approval) { a.Expires = now }), pinned, signing.ErrExpired, "it expired at 2026-05-04T12:00:00Z"},
		{"not yet valid", change(func(a *fleet.Approval) { a.NotBefore = now.Add(time.Second) }), pinned, signing.ErrNotYetValid, "valid from 2026-05-04T12:00:01Z"},
		{"lives too long", resign(edit("2026-05-04T13", "2026-05-14T13"), fleet.ApprovalNamespace), pinned, signing.ErrTooLong, "longer than the 7 days"},
		{"no approver", resign(edit(`"approver":"alice"`, `"approver":""`), fleet.ApprovalNamespace), pinned, signing.ErrOtherPerson, "not for"},
		{"no plan", resign(edit(`"plan":"p1"`, `"plan":""`), fleet.ApprovalNamespace), pinned, signing.ErrMalformed, "no clusterUID or plan"},
		{"unknown field", resign(edit(`"action"`, `"aaa":1,"action"`), fleet.ApprovalNamespace), pinned, signing.ErrMalformed, "unknown field"},
		{"a key given twice", resign(edit(`"action":"apply"`, `"action":"remove","action":"apply"`), fleet.ApprovalNamespace), pinned, signing.ErrMalformed, "canonical"},
		{"white space", resign(append(bytes.Clone(good.Statement), '\n'), fleet.ApprovalNamespace), pinned, signing.ErrMalformed, "canonical"},
		{"not JSON", resign([]byte("approve it"), fleet.ApprovalNamespace), pinned, signing.ErrMalformed, "can't be read"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := signing.VerifyApproval(test.s, parse(t, test.allowed), now)
			var refusal *signing.Refusal
			if !errors.As(err, &refusal) || !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("error %v, want %v: ...%s...", err, test.want, test.text)
			}
		})
	}
}

func TestARefusedApprovalStillSaysWhatItClaims(t *testing.T) {
	key := loadKey(t, newKeyFile(t, "ed25519", "", ""))
	s := signed(t, approval(), key)
	s.Signature = ""
	a, _, err := signing.VerifyApproval(s, nil, now)
	if err == nil || a.App != "shop/guestbook" {
		t.Errorf("claims %q, error %v", a.App, err)
	}
}

func TestSignApprovalRefusesWhatIsNotWellFormed(t *testing.T) {
	a := approval()
	a.Targets = nil
	if _, err := signing.SignApproval(a, loadKey(t, newKeyFile(t, "ed25519", "", ""))); !errors.Is(err, fleet.ErrInvalid) {
		t.Errorf("error %v", err)
	}
}

func FuzzVerifyApproval(f *testing.F) {
	key := loadKey(f, newKeyFile(f, "ed25519", "", ""))
	allowed := parse(f, "alice "+key.Public())
	good := signed(f, approval(), key)
	f.Add(good.Statement, good.Signature)
	f.Add(bytes.ToUpper(good.Statement), good.Signature)
	f.Add([]byte(`{"app":"a/b"}`), "-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----")
	f.Fuzz(func(t *testing.T, statement []byte, signature string) {
		a, signer, err := signing.VerifyApproval(fleet.SignedApproval{Statement: statement, Signature: signature}, allowed, now)
		if err == nil && (!bytes.Equal(statement, good.Statement) || a.Approver != signer.Principal) {
			t.Errorf("accepted %q", statement)
		}
	})
}
