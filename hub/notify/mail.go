package notify

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"

	gomail "github.com/wneessen/go-mail"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// mail goes to an SMTP server.
type mail struct{ emailConfig }

var mailPorts = map[string]int{"": 587, "starttls": 587, "implicit": 465, "none": 25}

func (c emailConfig) check() error {
	if c.Host == "" {
		return fleet.Invalid("host is missing")
	}
	if _, ok := mailPorts[c.TLS]; !ok {
		return fleet.Invalid("tls %q is not one of starttls, implicit, none", c.TLS)
	}
	if c.Port < 0 || c.Port > 65535 {
		return fleet.Invalid("port %d is not one", c.Port)
	}
	if (c.Username == "") != (c.PasswordFile == "") {
		return fleet.Invalid("username and passwordFile go together")
	}
	if c.Username != "" && c.TLS == "none" {
		return fleet.Invalid("a password needs TLS")
	}
	m := gomail.NewMsg()
	if err := m.From(c.From); err != nil {
		return fleet.Invalid("from %q is not an address", c.From)
	}
	if len(c.To) == 0 {
		return fleet.Invalid("to names nobody")
	}
	for _, to := range c.To {
		if err := m.To(to); err != nil {
			return fleet.Invalid("to %q is not an address", to)
		}
	}
	return nil
}

func (*mail) kind() string { return "email" }

func (c *mail) send(ctx context.Context, m Message, text string) error {
	msg := gomail.NewMsg()
	if err := msg.From(c.From); err != nil {
		return err
	}
	if err := msg.To(c.To...); err != nil {
		return err
	}
	msg.Subject("[capstan] " + line(m.Title(), 200))
	msg.SetMessageIDWithValue(m.ID + "@capstan-hub")
	msg.SetBodyString(gomail.TypeTextPlain, text+"\n")
	client, err := c.dialer()
	if err != nil {
		return err
	}
	if err := client.DialAndSendWithContext(ctx, msg); err != nil {
		return fleet.Unavailable("mail by %s: %w", net.JoinHostPort(c.Host, strconv.Itoa(c.port())), err)
	}
	return nil
}

func (c *mail) port() int {
	if c.Port != 0 {
		return c.Port
	}
	return mailPorts[c.TLS]
}

func (c *mail) dialer() (*gomail.Client, error) {
	pool, err := caPool(c.CAFile)
	if err != nil {
		return nil, err
	}
	opts := []gomail.Option{
		gomail.WithPort(c.port()), gomail.WithTimeout(sendWithin), gomail.WithoutNoop(),
		gomail.WithTLSConfig(&tls.Config{RootCAs: pool, ServerName: c.Host, MinVersion: tls.VersionTLS12}),
	}
	switch c.TLS {
	case "implicit":
		opts = append(opts, gomail.WithSSL())
	case "none":
		opts = append(opts, gomail.WithTLSPolicy(gomail.NoTLS))
	default:
		opts = append(opts, gomail.WithTLSPolicy(gomail.TLSMandatory))
	}
	if c.Username != "" {
		password, err := secretFile(c.PasswordFile)
		if err != nil {
			return nil, err
		}
		opts = append(opts, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(c.Username), gomail.WithPassword(password))
	}
	return gomail.NewClient(c.Host, opts...)
}
