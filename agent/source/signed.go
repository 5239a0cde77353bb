package source

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// signed is a commit or a tag, taken apart as git does.
type signed struct {
	payload   []byte // what the signature covers
	signature string // armored; "" if there is none
	name      string // of a tag: what it calls itself
	at        time.Time
}

// signedCommit takes the signature out of a commit's header.
func signedCommit(content []byte) (signed, error) {
	var s signed
	var signature bytes.Buffer
	inside, seen := false, false
	rest := content
	for len(rest) > 0 {
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		whole := rest[:len(rest)-len(after)]
		if len(line) == 0 { // the message begins
			break
		}
		rest = after
		value, isSignature := bytes.CutPrefix(line, []byte("gpgsig "))
		_, isOther := bytes.CutPrefix(line, []byte("gpgsig-sha256 "))
		continued := line[0] == ' '
		switch {
		case isSignature && seen:
			return s, errors.New("malformed commit: it has two signatures")
		case isSignature:
			inside, seen = true, true
			signature.Write(value)
			signature.WriteByte('\n')
		case isOther:
			return s, errors.New("the commit is signed for another hash, which is not supported")
		case inside && continued:
			signature.Write(line[1:])
			signature.WriteByte('\n')
		default:
			inside = false
			s.payload = append(s.payload, whole...)
			if when, ok := bytes.CutPrefix(line, []byte("committer ")); ok && s.at.IsZero() {
				var err error
				if s.at, err = parseWhen(when); err != nil {
					return s, fmt.Errorf("malformed commit: %w", err)
				}
			}
		}
	}
	s.payload = append(s.payload, rest...)
	s.signature = signature.String()
	return s, nil
}

// signedTag cuts the signature off a tag's end.
func signedTag(content []byte) (signed, error) {
	s := signed{payload: content}
	for _, begin := range []string{"-----BEGIN PGP SIGNATURE-----", "-----BEGIN SSH SIGNATURE-----"} {
		if i := bytes.LastIndex(content, []byte("\n"+begin)); i >= 0 && len(content)-i-1 > len(s.signature) {
			s.payload, s.signature = content[:i+1], string(content[i+1:])
		}
	}
	header, _, _ := bytes.Cut(s.payload, []byte("\n\n"))
	for line := range bytes.SplitSeq(header, []byte("\n")) {
		if name, ok := bytes.CutPrefix(line, []byte("tag ")); ok && s.name == "" {
			s.name = string(name)
		}
		if when, ok := bytes.CutPrefix(line, []byte("tagger ")); ok && s.at.IsZero() {
			var err error
			if s.at, err = parseWhen(when); err != nil {
				return s, fmt.Errorf("malformed tag: %w", err)
			}
		}
	}
	return s, nil
}

// parseWhen reads the time after a person's name: "... <mail> 1700000000 +0100".
func parseWhen(person []byte) (time.Time, error) {
	_, when, _ := bytes.Cut(person[bytes.LastIndexByte(person, '>')+1:], []byte(" "))
	seconds, _, _ := bytes.Cut(when, []byte(" "))
	n, err := strconv.ParseInt(string(seconds), 10, 64)
	if err != nil || n < 0 {
		return time.Time{}, errors.New("it has no time")
	}
	return time.Unix(n, 0), nil
}
