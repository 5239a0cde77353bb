package notify_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/hub/notify"
)

// postOffice is an SMTP server that knows one user.
type postOffice struct {
	addr *net.TCPAddr
	ca   string // PEM
	tls  *tls.Config

	mu    sync.Mutex
	users []string
	mails []string
}

func newPostOffice(t *testing.T) *postOffice {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &postOffice{
		addr: l.Addr().(*net.TCPAddr),
		ca:   string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		tls:  &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return p
}

func (p *postOffice) serve(c net.Conn) {
	defer func() { c.Close() }()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	r := bufio.NewReader(c)
	say := func(s string) { c.Write([]byte(s + "\r\n")) }
	say("220 post.example.com ESMTP")
	secure := false
	for {
		l, err := r.ReadString('\n')
		if err != nil {
			return
		}
		l = strings.TrimSpace(l)
		switch verb := strings.ToUpper(strings.SplitN(l, " ", 2)[0]); {
		case verb == "EHLO" && secure:
			say("250-post.example.com\r\n250 AUTH PLAIN")
		case verb == "EHLO":
			say("250-post.example.com\r\n250 STARTTLS")
		case verb == "STARTTLS":
			say("220 go on")
			tc := tls.Server(c, p.tls)
			if tc.Handshake() != nil {
				return
			}
			c, r, secure = tc, bufio.NewReader(tc), true
		case verb == "AUTH":
			b, _ := base64.StdEncoding.DecodeString(l[strings.LastIndex(l, " ")+1:])
			if string(b) != "\x00capstan\x00s3cret" {
				say("535 5.7.8 no")
				continue
			}
			p.mu.Lock()
			p.users = append(p.users, "capstan")
			p.mu.Unlock()
			say("235 welcome")
		case verb == "DATA":
			say("354 go on")
			var mail strings.Builder
			for {
				l, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if l == ".\r\n" {
					break
				}
				mail.WriteString(l)
			}
			p.mu.Lock()
			p.mails = append(p.mails, mail.String())
			p.mu.Unlock()
			say("250 taken")
		case verb == "QUIT":
			say("221 bye")
			return
		default:
			say("250 well")
		}
	}
}

func TestMailGoesOverTLSWithAPassword(t *testing.T) {
	p := newPostOffice(t)
	ca, password := secret(t, p.ca), secret(t, "s3cret")
	m := sample(notify.Degraded)
	m.App = "web\r\nBcc: everybody@example.com"
	const route = "on: [degraded], email: {host: 127.0.0.1, port: %d, caFile: %s, username: capstan, passwordFile: %s, from: 'Capstan <hub@example.com>', to: [ana@example.com, ben@example.com]}"
	if err := send(t, m, route, p.addr.Port, ca, password); err != nil {
		t.Fatal(err)
	}
	if len(p.mails) != 1 || len(p.users) != 1 {
		t.Fatalf("got %d mails, %d users", len(p.mails), len(p.users))
	}
	head, body, _ := strings.Cut(p.mails[0], "\r\n\r\n")
	if strings.Contains(head, "\nBcc:") || !strings.Contains(head, "ana@example.com") || !strings.Contains(body, "HealthCheckFailed") || !strings.Contains(head, "<"+m.ID+"@capstan-hub>") {
		t.Errorf("got\n%s", p.mails[0])
	}
	err := send(t, m, route, p.addr.Port, ca, secret(t, "another-s3cret"))
	if err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("with another password: %v", err)
	}
	if err := send(t, m, route, p.addr.Port, secret(t, newPostOffice(t).ca), password); err == nil {
		t.Error("another certificate was trusted")
	}
}

func TestMailWithoutTLSIsAnOwnChoice(t *testing.T) {
	p := newPostOffice(t)
	p.tls = &tls.Config{} // STARTTLS then fails
	const route = "on: [stale], email: {host: 127.0.0.1, port: %d, %s from: hub@example.com, to: [ana@example.com]}"
	if err := send(t, sample(notify.Stale), route, p.addr.Port, ""); err == nil {
		t.Error("mail went in clear though nobody asked for that")
	}
	if err := send(t, sample(notify.Stale), route, p.addr.Port, "tls: none,"); err != nil || len(p.mails) != 1 {
		t.Errorf("got %v, %d mails", err, len(p.mails))
	}
}
