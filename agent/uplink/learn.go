package uplink

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/pkg/fleet"
	"github.com/capstan-gitops/capstan/pkg/wire"
)

// learn takes over where the hub is to be found and what it is trusted by, when
// it says that this has changed: else a new CA or address would mean to join
// every cluster anew.
//
// Whoever speaks was found by what is kept, so it is believed; but a mistake
// there must not lose the hub for ever. A CA is taken only if it vouches for the
// line it came over, and the addresses from before are kept until one of the new
// ones has worked. It is asked once on a connection, and then every LearnEvery.
func (s *session) learn(ctx context.Context) error {
	k := s.state()
	if s.link == "" {
		return nil
	}
	if s.link == (wire.Link{URLs: k.URLs, CA: k.CA}).Stamp() {
		return s.forgetOld(ctx, k)
	}
	on := s.line.Load()
	asked := fmt.Sprint(s.link, on)
	if asked == s.unlearnt {
		return nil // it would be refused again
	}
	if on == s.learntOn && time.Since(s.learnt) < s.cfg.LearnEvery {
		return nil
	}
	line, err := s.nc.TLSConnectionState()
	if err != nil {
		return nil //nolint:nilerr // without TLS nobody knows who says so: there is nothing to learn
	}
	s.learntOn, s.learnt = on, time.Now()
	got, err := call[wire.Link](ctx, s, wire.LinkSubject(s.cfg.Cluster), wire.LinkGet{})
	if err != nil {
		return err
	}
	if got.Stamp() == (wire.Link{URLs: k.URLs, CA: k.CA}).Stamp() {
		return nil // of several hubs another one has answered
	}
	if err := believable(got, line); err != nil {
		s.unlearnt = asked
		return err
	}
	err = s.change(ctx, func(k *Kept) {
		k.remember(got, time.Now())
		k.OldURLs = older(slices.Concat(k.URLs, k.OldURLs), got)
		k.URLs, k.CA = got.URLs, got.CA
	})
	if err == nil {
		s.cfg.Log.InfoContext(ctx, "the hub says where it is to be found from now on", "urls", got.URLs)
	}
	return err
}

// learnEvery is long, so that hubs that do not agree, or one that changes its
// mind all the time, keep no agent busy.
const learnEvery = 5 * time.Minute

// mostOld is how many addresses from before are kept.
const mostOld = 16

// beforeFor is how long what counted before is kept: in that time a hub that
// somebody has taken over is hoped to be mended. A CA that is not to be trusted
// any more is not to be kept for ever.
const beforeFor = 7 * 24 * time.Hour

// before is what counted before, as long as that is kept; nil: nothing.
func (k Kept) before(now time.Time) *Before {
	if k.Before == nil || !now.Before(k.Before.Until) {
		return nil
	}
	return k.Before
}

// remember keeps what counts now, before a link takes its place. What is kept
// already is older, and stays: a hub that names others twice is not to reach it.
func (k *Kept) remember(l wire.Link, now time.Time) {
	if k.Before = k.before(now); k.Before == nil {
		k.Before = &Before{URLs: older(k.URLs, wire.Link{CA: k.CA}), CA: k.CA, Until: now.Add(beforeFor)}
	}
	if l.Stamp() == (wire.Link{URLs: k.Before.URLs, CA: k.Before.CA}).Stamp() {
		k.Before = nil // it is back
	}
}

// older are the addresses from before that are kept beside those of a link.
// What was reached over TLS because a CA was named still is where none is.
func older(old []string, l wire.Link) []string {
	var kept []string
	for _, u := range old {
		if schemeOf(u) == "nats" && l.CA == "" {
			u = "tls" + u[len("nats"):]
		}
		if !slices.Contains(l.URLs, u) && !slices.Contains(kept, u) && !leavesTLSOut(u, l.CA) {
			kept = append(kept, u)
		}
	}
	return kept[:min(len(kept), mostOld)]
}

// forgetOld drops the addresses from before, once one of the others works.
func (s *session) forgetOld(ctx context.Context, k Kept) error {
	here := endpoint(s.nc.ConnectedUrl())
	if len(k.OldURLs) == 0 || !slices.ContainsFunc(k.URLs, func(u string) bool { return endpoint(u) == here }) {
		return nil
	}
	return s.change(ctx, func(k *Kept) { k.OldURLs = nil })
}

// endpoint is what a URL leads to, with its port said.
func endpoint(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	port := u.Port()
	if port == "" {
		port = cmp.Or(map[string]string{"ws": "80", "wss": "443"}[u.Scheme], "4222")
	}
	return net.JoinHostPort(u.Hostname(), port) + strings.TrimSuffix(u.Path, "/")
}

// leavesTLSOut tells whether a URL can be reached without TLS: NATS itself asks
// for it where a CA is named.
func leavesTLSOut(raw, ca string) bool {
	switch schemeOf(raw) {
	case "tls", "wss":
		return false
	case "nats":
		return ca == ""
	}
	return true
}

// believable refuses what would leave TLS out, or trust another than whom the
// line leads to. The error is ErrInvalid.
func believable(l wire.Link, line tls.ConnectionState) error {
	for _, u := range l.URLs {
		if leavesTLSOut(u, l.CA) {
			return fleet.Invalid("the hub names %s, which leaves TLS out", u)
		}
	}
	pool, err := poolOf(l.CA)
	if err != nil {
		return err
	}
	between := x509.NewCertPool()
	for _, c := range line.PeerCertificates[1:] {
		between.AddCert(c)
	}
	// Its name was checked when the line was made.
	if _, err := line.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: between}); err != nil {
		return fleet.WithHint(fleet.Invalid("the CA that the hub names does not vouch for its own certificate: %w", err),
			"have the hub name the CA from before beside the new one until it shows a certificate of that")
	}
	return nil
}

// poolOf reads what is trusted; nil is what the system trusts.
func poolOf(ca string) (*x509.CertPool, error) {
	if ca == "" {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(ca)) {
		return nil, fleet.Invalid("the hub's CA is not a PEM certificate")
	}
	return pool, nil
}
