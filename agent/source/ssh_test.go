package source_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// sshServer serves the same repository as the gitServer over SSH, with git itself.
type sshServer struct {
	*gitServer
	address  string
	host     ssh.Signer
	sessions atomic.Int64

	mu      sync.Mutex
	allowed ssh.PublicKey

	dir                 string // the client's files
	identity, knownHost string
}

func newSigner(t *testing.T, key crypto.Signer) ssh.Signer {
	t.Helper()
	s, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newEd25519(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newSSHServer also makes the client's key and its file of known hosts.
func newSSHServer(t *testing.T, hosts ...ssh.Signer) *sshServer {
	t.Helper()
	if len(hosts) == 0 {
		hosts = []ssh.Signer{newSigner(t, newEd25519(t))}
	}
	s := &sshServer{gitServer: newGitServer(t), host: hosts[0], dir: t.TempDir()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	s.url = "ssh://git@" + s.address + "/fleet.git"
	s.identity, s.knownHost = filepath.Join(s.dir, "id"), filepath.Join(s.dir, "known_hosts")
	s.newIdentity("")
	s.trust(hosts[0].PublicKey())
	config := &ssh.ServerConfig{PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if c.User() != "git" || !bytes.Equal(key.Marshal(), s.allowed.Marshal()) {
			return nil, errors.New("no")
		}
		return &ssh.Permissions{}, nil
	}}
	for _, h := range hosts {
		config.AddHostKey(h)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() { s.serve(conn, config) })
		}
	})
	t.Cleanup(func() { l.Close(); group.Wait() })
	return s
}

// newIdentity gives the client a new key, which the server lets in.
func (s *sshServer) newIdentity(passphrase string) {
	s.t.Helper()
	key := newEd25519(s.t)
	var block *pem.Block
	var err error
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(key, "")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	writeFile(s.t, s.identity, string(pem.EncodeToMemory(block)))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allowed = newSigner(s.t, key).PublicKey()
}

func (s *sshServer) trust(keys ...ssh.PublicKey) {
	s.t.Helper()
	var lines strings.Builder
	for _, k := range keys {
		lines.WriteString(knownhosts.Line([]string{s.address}, k) + "\n")
	}
	writeFile(s.t, s.knownHost, lines.String())
}

func (s *sshServer) serve(conn net.Conn, config *ssh.ServerConfig) {
	defer conn.Close()
	c, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	defer c.Close()
	go ssh.DiscardRequests(requests)
	for offered := range channels {
		ch, asked, err := offered.Accept()
		if err != nil {
			return
		}
		s.sessions.Add(1)
		version := ""
		for r := range asked {
			var env struct{ Name, Value string }
			switch {
			case r.Type == "env" && ssh.Unmarshal(r.Payload, &env) == nil && env.Name == "GIT_PROTOCOL":
				version = protocol(s.t, env.Value)
				_ = r.Reply(version != "", nil)
				continue
			case r.Type != "exec":
				_ = r.Reply(false, nil)
				continue
			}
			_ = r.Reply(true, nil)
			s.exec(ch, string(r.Payload[4:]), version)
			break
		}
		ch.Close()
	}
}

func (s *sshServer) exec(ch ssh.Channel, command, version string) {
	var status struct{ Code uint32 }
	dir, known := map[string]string{"git-upload-pack '/fleet.git'": s.bare}[command]
	if !known {
		dir = filepath.Join(s.dir, "none.git")
	}
	cmd := exec.Command("git", "upload-pack", dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		return
	}
	go func() { _, _ = io.Copy(in, ch); in.Close() }()
	cmd.Stdout, cmd.Stderr, cmd.Env = io.MultiWriter(ch, counter{&s.sent}), ch.Stderr(), append(gitEnv(), "GIT_PROTOCOL="+version)
	if cmd.Run() != nil {
		status.Code = 128
	}
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(status))
}

func (s *sshServer) open(change ...func(*source.Config)) *source.Repository {
	s.t.Helper()
	return s.gitServer.open(append([]func(*source.Config){func(c *source.Config) {
		c.IdentityFile, c.KnownHostsFile = s.identity, s.knownHost
	}}, change...)...)
}

func TestSSHBringsOnlyWhatChanged(t *testing.T) {
	s := newSSHServer(t)
	for i := range 50 {
		s.write(filepath.Join("apps", strings.Repeat("x", i+1)), rand.Text()+strings.Repeat(rand.Text(), 20))
	}
	s.push()
	r := s.open()
	first := fetch(t, r)
	whole := s.sent.Swap(0)
	if fetch(t, r) != first {
		t.Error("the snapshot is another one")
	}
	s.sent.Store(0)
	s.write("apps/x", "new")
	commit := s.push()
	got := fetch(t, r)
	if got.Commit != commit || read(t, got, "apps/x") != "new" {
		t.Errorf("got %s", got.Commit)
	}
	read(t, got, "apps/xx")
	if part := s.sent.Load(); part > whole/4 {
		t.Errorf("one file's change cost %d bytes, everything %d", part, whole)
	}
	if n := s.sessions.Load(); n != 3 {
		t.Errorf("%d sessions for 3 fetches", n)
	}
}

func TestSSHFollowsRewrittenHistory(t *testing.T) {
	s := newSSHServer(t)
	s.write("f", "1")
	s.push()
	r := s.open()
	fetch(t, r)
	run(t, s.work, "checkout", "-q", "--orphan", "fresh")
	s.write("f", "2")
	orphan := s.push()
	run(t, s.bare, "reflog", "expire", "--expire=now", "--all")
	run(t, s.bare, "gc", "-q", "--prune=now")
	if got := fetch(t, r); got.Commit != orphan || read(t, got, "f") != "2" {
		t.Errorf("got %s", got.Commit)
	}
}

func TestHostKeysAreVerified(t *testing.T) {
	s := newSSHServer(t)
	s.write("f", "1")
	s.push()
	r := s.open()
	other := newSigner(t, newEd25519(t)).PublicKey()
	for _, c := range []struct{ name, file, text, hint string }{
		{"unknown", knownhosts.Line([]string{"git.example.com"}, other), "is not known: it is ssh-ed25519 " + ssh.FingerprintSHA256(s.host.PublicKey()), "ssh-keyscan"},
		{"none", "", "is not known", "ssh-keyscan"},
		{"changed", knownhosts.Line([]string{s.address}, other), "has changed", "between the agent and the server"},
		{"revoked", "@revoked * " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.host.PublicKey()))), "is revoked by line 1", "owner"},
		{"malformed", "git.example.com ssh-ed25519 !!", "host keys to trust: ", "ssh-keyscan"},
	} {
		writeFile(t, s.knownHost, c.file+"\n")
		_, err := r.Fetch(t.Context())
		wantError(t, err, c.text, c.hint)
		if c.name != "malformed" && !errors.Is(err, fleet.ErrForbidden) {
			t.Errorf("%s: not told apart: %v", c.name, err)
		}
	}
	if s.sessions.Load() != 0 {
		t.Error("a session was begun with a host that is not trusted")
	}
	writeFile(t, s.knownHost, knownhosts.HashHostname(knownhosts.Normalize(s.address))+" "+string(ssh.MarshalAuthorizedKey(s.host.PublicKey())))
	fetch(t, r) // it recovers
	_, err := s.open(func(c *source.Config) { c.KnownHostsFile = filepath.Join(s.dir, "none") }).Fetch(t.Context())
	wantError(t, err, "host keys to trust", "mounted")
}

func TestOfSeveralHostKeysTheKnownOneIsAskedFor(t *testing.T) {
	second, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := newSSHServer(t, newSigner(t, second), newSigner(t, newEd25519(t)))
	s.write("f", "1")
	s.push()
	fetch(t, s.open())
}

func TestTheSSHKeyIsReadAgainAtEachFetch(t *testing.T) {
	s := newSSHServer(t)
	s.write("f", "1")
	s.push()
	r := s.open()
	fetch(t, r)
	old := newEd25519(t)
	block, err := ssh.MarshalPrivateKey(old, "")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, s.identity, string(pem.EncodeToMemory(block)))
	_, err = r.Fetch(t.Context())
	wantError(t, err, "refuses the key "+ssh.FingerprintSHA256(newSigner(t, old).PublicKey()), "deploy key")
	if !errors.Is(err, fleet.ErrForbidden) {
		t.Errorf("not told apart: %v", err)
	}
	s.newIdentity("")
	fetch(t, r)
	writeFile(t, s.identity, "-----BEGIN "+secret)
	_, err = r.Fetch(t.Context())
	wantError(t, err, "holds no private key", "ssh-keygen")
}

func TestAKeyWithAPassphrase(t *testing.T) {
	s := newSSHServer(t)
	s.write("f", "1")
	s.push()
	s.newIdentity(secret)
	_, err := s.open().Fetch(t.Context())
	wantError(t, err, "has a passphrase", "give the file")
	file := filepath.Join(s.dir, "passphrase")
	writeFile(t, file, "another")
	r := s.open(func(c *source.Config) { c.IdentityPassphraseFile = file })
	_, err = r.Fetch(t.Context())
	wantError(t, err, "passphrase does not open", "check both")
	writeFile(t, file, secret+"\n")
	fetch(t, r)
}

func TestSSHServersThatFail(t *testing.T) {
	s := newSSHServer(t)
	_, err := s.open().Fetch(t.Context())
	wantError(t, err, "the repository is empty", "branch main")
	_, err = s.open(func(c *source.Config) { c.URL = strings.Replace(s.url, "fleet", "other", 1) }).Fetch(t.Context())
	wantError(t, err, "no such repository", "URL")
	s.write("f", "1")
	s.push()
	_, err = s.open(func(c *source.Config) { c.Limits.PackBytes = 10 }).Fetch(t.Context())
	wantError(t, err, "over the limit", "large files")
	_, err = s.open(func(c *source.Config) { c.Ref.Branch = "prod" }).Fetch(t.Context())
	wantError(t, err, `no branch "prod"`, "main")
}

func TestAnSSHServerThatStallsIsGivenUp(t *testing.T) {
	s := newSSHServer(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, conn) // until the agent hangs up
		conn.Close()
	}()
	_, err = s.open(func(c *source.Config) {
		c.URL, c.Timeout = "ssh://git@"+l.Addr().String()+"/fleet.git", 100*time.Millisecond
	}).Fetch(t.Context())
	wantError(t, err, "no complete answer within", "fast enough")
	<-done
}
