package source_test

import (
	"bytes"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// sshKey has ssh-keygen make a key, and gives its file and its public line.
func sshKey(t *testing.T) (file, public string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "id")
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-y", "-f", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	return file, strings.TrimSpace(string(out))
}

// signWith has git sign with an SSH key.
func (s *gitServer) signWith(key string) {
	s.t.Helper()
	run(s.t, s.work, "config", "gpg.format", "ssh")
	run(s.t, s.work, "config", "user.signingkey", key)
}

func pinned(t *testing.T, text string) (string, func(*source.Config)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keys")
	writeFile(t, file, text+"\n")
	return file, func(c *source.Config) {
		if strings.Contains(text, "PGP") {
			c.Verify.OpenPGPKeysFile = file
		} else {
			c.Verify.AllowedSignersFile = file
		}
	}
}

func mode(m string) func(*source.Config) { return func(c *source.Config) { c.Verify.Mode = m } }

func TestCommitsSignedWithSSH(t *testing.T) {
	s := newGitServer(t)
	key, public := sshKey(t)
	other, otherPublic := sshKey(t)
	file, pin := pinned(t, "alice@example.com "+public)
	s.signWith(key)
	s.write("f", "1")
	signed := s.push("-S")
	r := s.open(pin)
	if got := fetch(t, r); got.Commit != signed {
		t.Errorf("got %s", got.Commit)
	}
	s.write("f", "2")
	unsigned := s.push()
	_, err := r.Fetch(t.Context())
	wantError(t, err, "commit "+unsigned+" is not verified: it is not signed", "pinned here")
	if !errors.Is(err, fleet.ErrForbidden) {
		t.Errorf("not told apart: %v", err)
	}
	packs := s.packs.Load()
	_, _ = r.Fetch(t.Context())
	if s.packs.Load() != packs {
		t.Error("it was downloaded again")
	}
	s.signWith(other)
	s.write("f", "3")
	foreign := s.push("-S")
	_, err = r.Fetch(t.Context())
	wantError(t, err, "commit "+foreign+" is not verified: its key SHA256:", "pin the key")
	packs = s.packs.Load()
	for _, c := range []struct{ line, why string }{
		{`bob@example.com namespaces="file" ` + otherPublic, "namespaces file only"},
		{`bob@example.com valid-before="20200101" ` + otherPublic, "was valid until"},
		{"nonsense", "no public key"},
	} {
		writeFile(t, file, c.line+"\n")
		_, err = r.Fetch(t.Context())
		wantError(t, err, c.why, "")
	}
	writeFile(t, file, `bob@example.com namespaces="git" `+otherPublic+"\n")
	if got := fetch(t, r); got.Commit != foreign || s.packs.Load() > packs+1 { // to see that it comes after the first
		t.Errorf("when the key was pinned: got %s, %d downloads", got.Commit, s.packs.Load()-packs)
	}
}

func TestASignatureIsOfOneCommit(t *testing.T) {
	s := newGitServer(t)
	key, public := sshKey(t)
	_, pin := pinned(t, "alice@example.com "+public)
	s.signWith(key)
	s.write("f", "1")
	s.push("-S")
	raw := run(t, s.work, "cat-file", "commit", "HEAD") + "\n"
	s.write("f", "evil")
	run(t, s.work, "add", "-A")
	evil := run(t, s.work, "write-tree")
	for name, forged := range map[string]string{
		"another tree":    "tree " + evil + raw[len("tree ")+40:],
		"another message": raw + "and more\n",
		"two signatures":  strings.Replace(raw, "gpgsig ", "gpgsig x\ngpgsig ", 1),
		"a broken one":    strings.Replace(raw, "gpgsig -----BEGIN SSH SIGNATURE-----", "gpgsig -----BEGIN SSH SIGNATURE-----\n !!", 1),
		"of nothing":      strings.Replace(raw, "gpgsig -----BEGIN SSH SIGNATURE-----", "gpgsig -----BEGIN SIGNED MESSAGE-----", 1),
	} {
		commit := s.object("commit", forged)
		run(t, s.work, "push", "-q", "-f", "origin", commit+":refs/heads/main")
		_, err := s.open(pin).Fetch(t.Context())
		if err == nil || !strings.Contains(err.Error(), "commit "+commit+" is not verified") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// object writes any object into the working clone, however odd.
func (s *gitServer) object(kind, content string) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), "git", "hash-object", "-t", kind, "-w", "--stdin", "--literally")
	cmd.Dir, cmd.Env, cmd.Stdin = s.work, gitEnv(), strings.NewReader(content)
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestSignedTags(t *testing.T) {
	s := newGitServer(t)
	key, public := sshKey(t)
	_, pin := pinned(t, "alice@example.com "+public)
	s.signWith(key)
	s.write("f", "1")
	commit := s.push()
	s.tag("v1.0.0", "unsigned")
	s.tag("v1.1.0", "")
	run(t, s.work, "tag", "-s", "-m", "signed", "v1.2.0")
	run(t, s.work, "update-ref", "refs/tags/v1.3.0", "refs/tags/v1.2.0") // an old one under a new name
	run(t, s.work, "push", "-q", "origin", "v1.2.0", "v1.3.0")
	follow := func(name string) *source.Repository {
		return s.open(pin, mode(source.VerifyTag), func(c *source.Config) { c.Ref = source.Ref{Tag: name} })
	}
	if got := fetch(t, follow("v1.2.0")); got.Commit != commit {
		t.Errorf("got %s", got.Commit)
	}
	for name, why := range map[string]string{"v1.0.0": "it is not signed", "v1.1.0": "it is not an annotated tag", "v1.3.0": `it is the tag "v1.2.0" under another name`} {
		_, err := follow(name).Fetch(t.Context())
		wantError(t, err, "tag "+name+" is not verified: "+why, "pinned")
	}
	r := s.open(pin, mode(source.VerifyTag), func(c *source.Config) { c.Ref = source.Ref{Semver: "<1.3"} })
	fetch(t, r)
	_, err := s.open(pin, func(c *source.Config) { c.Ref = source.Ref{Tag: "v1.2.0"} }).Fetch(t.Context())
	wantError(t, err, "commit "+commit+" is not verified: it is not signed", "") // of the commit, not of its tag
}

func newOpenPGP(t *testing.T, config *packet.Config) (*openpgp.Entity, string) {
	t.Helper()
	e, err := openpgp.NewEntity("alice", "", "alice@example.com", config)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.Serialize(w), w.Close()); err != nil {
		t.Fatal(err)
	}
	return e, b.String()
}

// pushOpenPGP signs the head of the working clone anew and pushes that.
func (s *gitServer) pushOpenPGP(by *openpgp.Entity) string {
	s.t.Helper()
	run(s.t, s.work, "add", "-A")
	run(s.t, s.work, "commit", "-q", "--allow-empty", "-m", "change")
	raw := run(s.t, s.work, "cat-file", "commit", "HEAD") + "\n"
	var b bytes.Buffer
	if err := openpgp.ArmoredDetachSign(&b, by, strings.NewReader(raw), nil); err != nil {
		s.t.Fatal(err)
	}
	header, message, _ := strings.Cut(raw, "\n\n")
	commit := s.object("commit", header+"\ngpgsig "+strings.ReplaceAll(b.String(), "\n", "\n ")+"\n\n"+message)
	run(s.t, s.work, "push", "-q", "-f", "origin", commit+":refs/heads/main")
	return commit
}

func TestCommitsSignedWithOpenPGP(t *testing.T) {
	s := newGitServer(t)
	alice, alicePublic := newOpenPGP(t, nil)
	bob, bobPublic := newOpenPGP(t, &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	file, pin := pinned(t, alicePublic)
	r := s.open(pin)
	s.write("f", "1")
	if commit := s.pushOpenPGP(alice); fetch(t, r).Commit != commit {
		t.Error("another commit was fetched")
	}
	s.write("f", "2")
	commit := s.pushOpenPGP(bob)
	_, err := r.Fetch(t.Context())
	wantError(t, err, "commit "+commit+" is not verified: its OpenPGP key is not pinned", "pin the key")
	writeFile(t, file, alicePublic+"\n"+bobPublic)
	if fetch(t, r).Commit != commit {
		t.Error("another commit was fetched")
	}
	s.write("f", "3")
	s.pushOpenPGP(alice)
	for _, bad := range []string{"", "nonsense", strings.Replace(alicePublic, "PUBLIC", "PRIVATE", 2), alicePublic[:200], alicePublic + "-----BEGIN CERTIFICATE-----"} {
		writeFile(t, file, bad)
		_, err = r.Fetch(t.Context())
		wantError(t, err, "is not verified", "gpg --export")
	}
	_, sshPin := pinned(t, "alice@example.com "+func() string { _, p := sshKey(t); return p }())
	_, err = s.open(sshPin).Fetch(t.Context())
	wantError(t, err, "no OpenPGP keys are given", "")
	writeFile(t, file, alicePublic)
	r.SetClock(func() time.Time { return time.Now().AddDate(-1, 0, 0) })
	_, err = r.Fetch(t.Context())
	wantError(t, err, "is not verified", "") // a signature from the future
}

func TestVerificationThatCannotWorkIsRefused(t *testing.T) {
	for _, c := range []struct {
		verify source.Verify
		want   string
	}{
		{source.Verify{Mode: "commit"}, "no keys are given"},
		{source.Verify{Mode: "push", AllowedSignersFile: "f"}, `"push"`},
		{source.Verify{Mode: "tag", AllowedSignersFile: "f"}, "no tag is followed"},
	} {
		_, err := source.New(source.Config{URL: "https://git.example.com/f.git", Ref: source.Ref{Branch: "main"}, Verify: c.verify})
		wantError(t, err, c.want, "")
	}
}

func FuzzSigned(f *testing.F) {
	h := strings.Repeat("ab", 20)
	f.Add([]byte("tree " + h + "\ncommitter a <b> 1 +0\ngpgsig -----BEGIN SSH SIGNATURE-----\n x\n\nmessage\n"))
	f.Add([]byte("object " + h + "\ntype commit\ntag v1\ntagger a <b> 1 +0\n\nmessage\n-----BEGIN PGP SIGNATURE-----\nx\n"))
	f.Add([]byte("gpgsig\n\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		payload, signature, err := source.Signed(content, false)
		if err == nil && signature == "" && !bytes.Equal(payload, content) {
			t.Errorf("%q is signed as %q", content, payload)
		}
		if err == nil && !bytes.HasPrefix(content, []byte("gpgsig")) && !sameFirstLine(payload, content) {
			t.Errorf("%q begins another way in %q", content, payload)
		}
		payload, signature, err = source.Signed(content, true)
		if err == nil && string(payload)+signature != string(content) {
			t.Errorf("%q is not %q and %q", content, payload, signature)
		}
		_, _ = source.ParseOpenPGPKeys(content)
	})
}

func sameFirstLine(a, b []byte) bool {
	x, _, _ := bytes.Cut(a, []byte("\n"))
	y, _, _ := bytes.Cut(b, []byte("\n"))
	return bytes.Equal(x, y)
}
