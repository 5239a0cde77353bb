package hooks

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"
)

// A proof tells whether a call was made by somebody who has the secret.
type proof func(secret, body []byte) bool

// verified are the secrets that the proof was made with. All are tried, so that
// the time taken says nothing.
func verified(all []secret, made proof, body []byte) []secret {
	var out []secret
	for _, s := range all {
		if made(s.value, body) {
			out = append(out, s)
		}
	}
	return out
}

// signature reads an HMAC-SHA256 of the body, in hex, after a prefix, from the
// first of the headers that is there. SHA-1, which some forges send as well, is
// not looked at.
func signature(prefix string, headers ...string) func(http.Header) (proof, bool) {
	return func(h http.Header) (proof, bool) {
		for _, name := range headers {
			digits, ok := strings.CutPrefix(h.Get(name), prefix)
			if !ok || digits == "" {
				continue
			}
			mac, err := hex.DecodeString(digits)
			if err != nil || len(mac) != sha256.Size {
				return nil, false
			}
			return func(secret, body []byte) bool {
				m := hmac.New(sha256.New, secret)
				m.Write(body)
				return hmac.Equal(mac, m.Sum(nil))
			}, true
		}
		return nil, false
	}
}

// either takes the first form of signature that is there.
func either(all ...func(http.Header) (proof, bool)) func(http.Header) (proof, bool) {
	return func(h http.Header) (proof, bool) {
		for _, f := range all {
			if p, ok := f(h); ok {
				return p, true
			}
		}
		return nil, false
	}
}

// token reads a secret that came as it is.
func token(header string) func(http.Header) (proof, bool) {
	return func(h http.Header) (proof, bool) { return same(h.Get(header)) }
}

// basic reads USER:PASSWORD.
func basic(h http.Header) (proof, bool) {
	scheme, rest, _ := strings.Cut(h.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Basic") {
		return nil, false
	}
	pair, err := base64.StdEncoding.DecodeString(strings.TrimSpace(rest))
	if err != nil {
		return nil, false
	}
	return same(string(pair))
}

// same compares hashes, so that not even the length is told by the time taken.
func same(given string) (proof, bool) {
	got := sha256.Sum256([]byte(given))
	return func(secret, _ []byte) bool {
		want := sha256.Sum256(secret)
		return subtle.ConstantTimeCompare(got[:], want[:]) == 1
	}, given != ""
}
