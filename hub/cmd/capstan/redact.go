package main

import (
	"bytes"
	"encoding/json"
	"math"
	"regexp"
	"slices"
	"strings"
)

// redacted stands where a secret was.
const redacted = "[redacted]"

// Secrets that are known by their form, whatever stands around them.
var secretForms = []*regexp.Regexp{
	regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----[^"]*?-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----`),
	regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----[^"]*`), // cut short
	regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+){0,2}`),         // JWTs, join tokens
	regexp.MustCompile(`\bS[UAONCX][A-Z2-7]{40,}`),                              // nkey seeds
	regexp.MustCompile(`capstan_[A-Za-z0-9_-]{20,}`),
	regexp.MustCompile(`AGE-SECRET-KEY-[A-Z0-9-]+`),
	regexp.MustCompile(`gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|gl[a-z]{2,6}-[A-Za-z0-9_.-]{16,}`),
	regexp.MustCompile(`xox[a-z]-[A-Za-z0-9-]{10,}|(?:AKIA|ASIA)[0-9A-Z]{16}`),
	regexp.MustCompile(`hooks\.slack\.com/[^\s"'\\]+`),
	regexp.MustCompile(`(?i)\b(?:bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}`),
}

var (
	// userInfo is a credential in an address.
	userInfo = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^/@\s"'\\]+@`)
	// secretName is a name that says what its value is. The value ends at a quote,
	// a space or what separates fields.
	secretName = regexp.MustCompile(`(?i)((?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|private[_-]?key|access[_-]?key|credentials?|authorization|cookie|signature|seed|jwt)s?(?:\\*["'])?\s*[:=]\s*(?:\\*["'])?|--?[\w-]*(?:password|passphrase|secret|token)[ =])([^\s"'\\,;&{}\[\]<>]+)`)
	// secretField is a JSON field of such a name.
	secretField = regexp.MustCompile(`(?i)(?:password|passwd|passphrase|secret|token|api[_-]?key|private[_-]?key|access[_-]?key|credentials?|authorization|cookie|seed|jwt)s?$`)
	// word is what may be a random one.
	word = regexp.MustCompile(`[A-Za-z0-9+/=_-]{32,}`)
)

// redactor takes secrets out of text.
type redactor struct {
	known []string // as they are
}

// redact takes out what is known, what has the form of a secret, what a name
// calls one, and long words that look random. Commits and digests, which are
// hexadecimal, stay.
func (r redactor) redact(s string) string {
	for _, k := range r.known {
		if len(k) >= 4 {
			s = strings.ReplaceAll(s, k, redacted)
		}
	}
	for _, form := range secretForms {
		s = form.ReplaceAllLiteralString(s, redacted)
	}
	s = userInfo.ReplaceAllString(s, "${1}"+redacted+"@")
	s = secretName.ReplaceAllStringFunc(s, func(found string) string {
		at := secretName.FindStringSubmatchIndex(found)
		if at == nil || plainValue(found[at[4]:at[5]]) {
			return found
		}
		return found[:at[4]] + redacted
	})
	return word.ReplaceAllStringFunc(s, func(w string) string {
		if looksRandom(w) {
			return redacted
		}
		return w
	})
}

// lines redacts a log: lines of JSON by their fields, and the rest as text.
func (r redactor) lines(s string) string {
	var out, text strings.Builder
	flush := func() { // together: a key in PEM has many lines
		out.WriteString(r.redact(text.String()))
		text.Reset()
	}
	for l := range strings.Lines(s) {
		if !strings.HasPrefix(l, "{") {
			text.WriteString(l)
			continue
		}
		clean, err := r.json([]byte(l), "")
		if err != nil {
			text.WriteString(l)
			continue
		}
		flush()
		out.Write(append(clean, '\n'))
	}
	flush()
	return out.String()
}

// json redacts what is in a JSON value.
func (r redactor) json(data []byte, indent string) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	err := e.Encode(r.value(v))
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), err
}

func (r redactor) value(v any) any {
	switch v := v.(type) {
	case string:
		return r.redact(v)
	case []any:
		for i := range v {
			v[i] = r.value(v[i])
		}
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, field := range v {
			if s, ok := field.(string); ok && s != "" && secretField.MatchString(k) {
				field = redacted
			}
			out[r.redact(k)] = r.value(field)
		}
		return out
	}
	return v
}

// plainValue is what JSON has without quotes, and no secret.
func plainValue(v string) bool {
	return slices.Contains([]string{"null", "true", "false", redacted}, v) ||
		strings.Trim(v, "0123456789.-") == "" && len(v) < 12
}

// looksRandom tells a random word from a path or a name: it has capitals, small
// letters and digits, and hardly repeats itself.
func looksRandom(w string) bool {
	var upper, lower, digit bool
	count := map[rune]int{}
	for _, c := range w {
		upper = upper || c >= 'A' && c <= 'Z'
		lower = lower || c >= 'a' && c <= 'z'
		digit = digit || c >= '0' && c <= '9'
		count[c]++
	}
	bits, n := 0.0, float64(len(w))
	for _, k := range count {
		p := float64(k) / n
		bits -= p * math.Log2(p)
	}
	return upper && lower && digit && bits > 4.1
}
