// Package sopstest encrypts files as SOPS does, for tests that are about what
// becomes of them. SOPS' own library decrypts what it makes: a test of package
// sops shows it.
package sopstest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash"
	"regexp"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// Failer is a test, as far as it is needed here.
type Failer interface{ Fatal(args ...any) }

// NewKey makes an age key: the private one as a key file has it, and its
// recipient.
func NewKey(t Failer) (private, recipient string) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id.String() + "\n", id.Recipient().String()
}

// YAML encrypts the values of a file below the keys that the expression matches.
func YAML(t Failer, plain, encryptedRegex string, recipients ...string) string {
	e := encrypter{t: t, key: make([]byte, 32), mac: sha512.New(), regex: regexp.MustCompile(encryptedRegex)}
	_, _ = rand.Read(e.key)
	d := yaml.NewDecoder(strings.NewReader(plain))
	var out bytes.Buffer
	var docs []*yaml.Node
	for {
		var doc yaml.Node
		if d.Decode(&doc) != nil {
			break
		}
		e.node(doc.Content[0], nil)
		docs = append(docs, &doc)
	}
	now := time.Now().UTC().Format(time.RFC3339)
	meta := map[string]any{
		"age": e.wrapped(recipients), "lastmodified": now, "encrypted_regex": encryptedRegex, "version": "3.13.3",
		"mac": e.seal(fmt.Sprintf("%X", e.mac.Sum(nil)), now, "str"),
	}
	for i, doc := range docs {
		var key, value yaml.Node
		if err := value.Encode(meta); err != nil {
			t.Fatal(err)
		}
		key.SetString("sops")
		doc.Content[0].Content = append(doc.Content[0].Content, &key, &value)
		if i > 0 {
			out.WriteString("---\n")
		}
		text, err := yaml.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(text)
	}
	return out.String()
}

// Binary encrypts a file as a whole.
func Binary(t Failer, plain string, recipients ...string) string {
	e := encrypter{t: t, key: make([]byte, 32), mac: sha512.New()}
	_, _ = rand.Read(e.key)
	e.mac.Write([]byte(plain))
	now := time.Now().UTC().Format(time.RFC3339)
	out, err := json.Marshal(map[string]any{"data": e.seal(plain, "data:", "str"), "sops": map[string]any{
		"age": e.wrapped(recipients), "lastmodified": now, "unencrypted_suffix": "_unencrypted", "version": "3.13.3",
		"mac": e.seal(fmt.Sprintf("%X", e.mac.Sum(nil)), now, "str"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// Dotenv encrypts lines of NAME=VALUE.
func Dotenv(t Failer, plain string, recipients ...string) string {
	e := encrypter{t: t, key: make([]byte, 32), mac: sha512.New()}
	_, _ = rand.Read(e.key)
	var out strings.Builder
	for line := range strings.Lines(plain) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		e.mac.Write([]byte(value))
		fmt.Fprintf(&out, "%s=%s\n", name, e.seal(value, name+":", "str"))
	}
	now := time.Now().UTC().Format(time.RFC3339)
	fmt.Fprintf(&out, "sops_lastmodified=%s\nsops_unencrypted_suffix=_unencrypted\nsops_version=3.13.3\nsops_mac=%s\n", now, e.seal(fmt.Sprintf("%X", e.mac.Sum(nil)), now, "str"))
	for i, k := range e.wrapped(recipients) {
		fmt.Fprintf(&out, "sops_age__list_%d__map_recipient=%s\nsops_age__list_%d__map_enc=%s\n", i, k["recipient"], i, strings.ReplaceAll(k["enc"], "\n", `\n`))
	}
	return out.String()
}

type encrypter struct {
	t     Failer
	key   []byte
	mac   hash.Hash
	regex *regexp.Regexp
}

func (e *encrypter) node(n *yaml.Node, path []string) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			e.node(n.Content[i+1], append(slices.Clip(path), n.Content[i].Value))
		}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			e.node(item, path)
		}
	case yaml.ScalarNode:
		e.mac.Write([]byte(n.Value)) // text and whole numbers, in these tests
		if slices.ContainsFunc(path, e.regex.MatchString) {
			kind := "str"
			if n.ShortTag() == "!!int" {
				kind = "int"
			}
			n.SetString(e.seal(n.Value, strings.Join(path, ":")+":", kind))
			return
		}
	}
}

func (e *encrypter) seal(plain, additional, kind string) string {
	block, err := aes.NewCipher(e.key)
	if err != nil {
		e.t.Fatal(err)
	}
	nonce := make([]byte, 32)
	_, _ = rand.Read(nonce)
	gcm, err := cipher.NewGCMWithNonceSize(block, len(nonce))
	if err != nil {
		e.t.Fatal(err)
	}
	out := gcm.Seal(nil, nonce, []byte(plain), []byte(additional))
	b := base64.StdEncoding.EncodeToString
	cut := len(out) - gcm.Overhead()
	return fmt.Sprintf("ENC[AES256_GCM,data:%s,iv:%s,tag:%s,type:%s]", b(out[:cut]), b(nonce), b(out[cut:]), kind)
}

func (e *encrypter) wrapped(recipients []string) []map[string]string {
	var all []map[string]string
	for _, r := range recipients {
		to, err := age.ParseRecipients(strings.NewReader(r))
		if err != nil {
			e.t.Fatal(err)
		}
		var b bytes.Buffer
		armored := armor.NewWriter(&b)
		w, err := age.Encrypt(armored, to...)
		if err != nil {
			e.t.Fatal(err)
		}
		_, err = w.Write(e.key)
		if cerr := w.Close(); err == nil {
			err = cerr
		}
		if cerr := armored.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			e.t.Fatal(err)
		}
		all = append(all, map[string]string{"recipient": r, "enc": b.String()})
	}
	return all
}
