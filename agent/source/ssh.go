package source

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
	"golang.org/x/sys/unix"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// sshLine leads to a server over SSH. Each session has a connection of its own:
// on one that is kept, servers have answered with what they knew long before.
type sshLine struct {
	cfg     *Config
	address address
}

var _ line = (*sshLine)(nil)

func newSSHServer(cfg *Config, url string, a address) (*server, error) {
	switch {
	case cfg.IdentityFile == "":
		return nil, fleet.WithHint(fleet.Invalid("no private key for ssh is given"), "give the file that holds it, without a passphrase or with a file that holds it too")
	case cfg.KnownHostsFile == "":
		return nil, fleet.WithHint(fleet.Invalid("no file with the host keys to trust is given"),
			"give a known_hosts file; ssh-keyscan writes one, compare its keys with what the server's owner publishes")
	}
	return newServer(cfg, url, &sshLine{cfg: cfg, address: a}), nil
}

func (l *sshLine) open(ctx context.Context) (session, credentials, error) {
	s, err := l.connect(ctx)
	if err != nil {
		return session{}, credentials{}, err
	}
	able, err := s.greeted()
	switch {
	case errors.Is(err, errOldProtocol):
		return session{old: s}, credentials{}, nil
	case err != nil:
		_ = s.Close() // of the two errors, the first says more
		return session{}, credentials{}, err
	}
	return session{talk: &streamTalk{stream: s, can: able}}, credentials{}, nil
}

// forget has nothing to: each session is a new one.
func (l *sshLine) forget() bool { return false }

// connect also has the connection closed when ctx ends, whatever waits on it.
func (l *sshLine) connect(ctx context.Context) (*stream, error) {
	key, err := l.identity()
	if err != nil {
		return nil, err
	}
	hosts, err := l.knownHosts()
	if err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext(ctx, "tcp", l.address.host)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	client, err := l.handshake(conn, key, hosts)
	if err != nil {
		stop()
		_ = conn.Close() // of the two errors, the first says more
		return nil, err
	}
	s, err := startStream(client, "git-upload-pack "+quote(l.address.path), l.cfg.Limits.answerBytes())
	if err != nil {
		stop()
		_ = client.Close() // likewise
		return nil, err
	}
	s.stop = stop
	return s, nil
}

func (l *sshLine) handshake(conn net.Conn, key ssh.Signer, hosts *hostKeys) (*ssh.Client, error) {
	var refused error // ours, which the handshake's error may not lead to
	c, channels, requests, err := ssh.NewClientConn(conn, l.address.host, &ssh.ClientConfig{
		User: l.address.user, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, ClientVersion: "SSH-2.0-capstan",
		HostKeyAlgorithms: hosts.algorithms(l.address.host),
		HostKeyCallback: func(host string, remote net.Addr, key ssh.PublicKey) error {
			refused = hosts.check(host, remote, key)
			return refused
		},
	})
	switch {
	case refused != nil:
		return nil, refused
	case err != nil && strings.Contains(err.Error(), "unable to authenticate"): // it has no type of its own
		return nil, fleet.WithHint(fleet.Forbidden("the server refuses the key %s of user %q", ssh.FingerprintSHA256(key.PublicKey()), l.address.user),
			"add its public key to the repository as a deploy key with read access; is the user in the URL right? Most servers want git")
	case err != nil:
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}

// identity reads the private key. What a parser says of a key file is not for
// people to see.
func (l *sshLine) identity() (ssh.Signer, error) {
	content, err := l.cfg.read(l.cfg.IdentityFile)
	if err != nil {
		return nil, fleet.WithHint(fmt.Errorf("private key for ssh: %w", err), "is the Secret mounted, and may the agent read it?")
	}
	if l.cfg.IdentityPassphraseFile != "" {
		passphrase, err := l.cfg.readSecret(l.cfg.IdentityPassphraseFile)
		if err != nil {
			return nil, err
		}
		key, err := ssh.ParsePrivateKeyWithPassphrase(content, []byte(passphrase))
		if errors.Is(err, x509.IncorrectPasswordError) {
			return nil, fleet.WithHint(fleet.Invalid("the passphrase does not open the private key %s", l.cfg.IdentityFile), "check both; they are read again at the next fetch")
		}
		if err == nil {
			return key, nil
		}
		return nil, badKey(l.cfg.IdentityFile)
	}
	key, err := ssh.ParsePrivateKey(content)
	if _, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
		return nil, fleet.WithHint(fleet.Invalid("the private key %s has a passphrase, and none is given", l.cfg.IdentityFile), "give the file that holds the passphrase")
	}
	if err != nil {
		return nil, badKey(l.cfg.IdentityFile)
	}
	return key, nil
}

func badKey(file string) error {
	return fleet.WithHint(fleet.Invalid("%s holds no private key that can be used", file),
		"it is to hold one as ssh-keygen writes it; if it has no passphrase, give no file with one")
}

// hostKeys are those that are trusted.
type hostKeys struct {
	file        string
	known       ssh.HostKeyCallback
	authorities bool // some are vouched for by a certificate
}

func (l *sshLine) knownHosts() (*hostKeys, error) {
	content, err := l.cfg.read(l.cfg.KnownHostsFile)
	if err != nil {
		return nil, fleet.WithHint(fmt.Errorf("host keys to trust: %w", err), "is the ConfigMap or Secret mounted?")
	}
	known, err := parseKnownHosts(l.cfg.KnownHostsFile, content)
	if err != nil {
		return nil, fleet.WithHint(fleet.Invalid("host keys to trust: %s", plain(err.Error())), "it is to be a known_hosts file as ssh-keyscan writes it")
	}
	return &hostKeys{file: l.cfg.KnownHostsFile, known: known, authorities: strings.Contains(string(content), "@cert-authority")}, nil
}

// parseKnownHosts reads a known_hosts file's content, called by its name in
// errors. The library reads files alone, so it is given one in memory.
func parseKnownHosts(name string, content []byte) (ssh.HostKeyCallback, error) {
	fd, err := unix.MemfdCreate("known_hosts", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("a file in memory: %w", err)
	}
	shown := fmt.Sprintf("/proc/self/fd/%d", fd)
	f := os.NewFile(uintptr(fd), shown)
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return nil, fmt.Errorf("a file in memory: %w", err)
	}
	known, err := knownhosts.New(shown)
	if err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), shown, name))
	}
	return known, nil
}

// check says what is wrong with a host's key.
func (k *hostKeys) check(host string, remote net.Addr, key ssh.PublicKey) error {
	err := k.known(host, remote, key)
	if err == nil {
		return nil
	}
	shown := ssh.FingerprintSHA256(key)
	if revoked, ok := errors.AsType[*knownhosts.RevokedError](err); ok {
		return fleet.WithHint(fleet.Forbidden("the host key of %s, %s, is revoked by line %d of %s", host, shown, revoked.Revoked.Line, k.file),
			"somebody may be between the agent and the server; ask the server's owner")
	}
	mismatch, ok := errors.AsType[*knownhosts.KeyError](err)
	switch {
	case ok && len(mismatch.Want) > 0:
		return fleet.WithHint(fleet.Forbidden("the host key of %s has changed: it is %s, and %s line %d has %s",
			host, shown, k.file, mismatch.Want[0].Line, ssh.FingerprintSHA256(mismatch.Want[0].Key)),
			"somebody may be between the agent and the server. If the server's owner changed the key, put the new one into the file")
	case ok:
		return fleet.WithHint(fleet.Forbidden("the host key of %s is not known: it is %s %s", host, key.Type(), shown),
			"compare it with what the server's owner publishes, and add it to "+k.file+"; ssh-keyscan prints the line")
	default:
		return fleet.WithHint(fleet.Forbidden("the host key of %s is not trusted: %s", host, plain(err.Error())), "check "+k.file)
	}
}

// algorithms are those of the keys that are known of a host: a server with
// several keys would otherwise show one that we don't know. nil is all.
func (k *hostKeys) algorithms(host string) []string {
	if k.authorities {
		return nil
	}
	nobody, err := ssh.NewPublicKey(ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)))
	if err != nil {
		return nil
	}
	asked, ok := errors.AsType[*knownhosts.KeyError](k.known(host, &net.TCPAddr{}, nobody))
	if !ok {
		return nil
	}
	var all []string
	for _, known := range asked.Want {
		if known.Key.Type() == ssh.KeyAlgoRSA { // by SHA-1 no longer
			all = append(all, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		} else {
			all = append(all, known.Key.Type())
		}
	}
	return all
}

// quote makes one word of a path for the shell at the other end.
func quote(s string) string {
	return "'" + strings.NewReplacer("'", `'\''`, "!", `'\!'`).Replace(s) + "'"
}
