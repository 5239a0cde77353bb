package sops

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"hash"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// CiphertextPrefix is how every encrypted value begins.
const CiphertextPrefix = "ENC[AES256_GCM,"

const (
	maxNonce = 128
	maxDepth = 200
)

var encrypted = regexp.MustCompile(`^ENC\[AES256_GCM,data:([^,]+),iv:([^,]+),tag:([^,]+),type:([a-z]+)\]$`)

var errCiphertext = errors.New("it is not as SOPS writes an encrypted value")

// open decrypts one value. It is bound to its path by additional data.
func open(key []byte, text, additional string) (plain []byte, kind string, err error) {
	m := encrypted.FindStringSubmatch(text)
	if m == nil {
		return nil, "", errCiphertext
	}
	var parts [3][]byte
	for i := range parts {
		if parts[i], err = base64.StdEncoding.DecodeString(m[i+1]); err != nil {
			return nil, "", errCiphertext
		}
	}
	data, nonce, tag := parts[0], parts[1], parts[2]
	if len(nonce) == 0 || len(nonce) > maxNonce {
		return nil, "", errCiphertext
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, "", err
	}
	gcm, err := cipher.NewGCMWithNonceSize(block, len(nonce))
	if err != nil {
		return nil, "", err
	}
	plain, err = gcm.Open(nil, nonce, append(data, tag...), []byte(additional))
	if err != nil {
		return nil, "", errors.New("it can't be decrypted with the file's data key: it was changed, or moved from another place")
	}
	return plain, m[4], nil
}

// rules say which values are encrypted.
type rules struct {
	unencryptedSuffix, encryptedSuffix string
	unencryptedRegex, encryptedRegex   *regexp.Regexp
	byComment                          bool // comments decide: whatever looks encrypted is
	macOnlyEncrypted                   bool
}

// demand tells whether the value at a path must be encrypted.
func (r *rules) demand(path []string) bool {
	any := func(is func(string) bool) bool {
		return slices.ContainsFunc(path, is)
	}
	switch {
	case r.encryptedSuffix != "":
		return any(func(p string) bool { return strings.HasSuffix(p, r.encryptedSuffix) })
	case r.encryptedRegex != nil:
		return any(r.encryptedRegex.MatchString)
	case r.unencryptedRegex != nil:
		return !any(r.unencryptedRegex.MatchString)
	case r.unencryptedSuffix != "":
		return !any(func(p string) bool { return strings.HasSuffix(p, r.unencryptedSuffix) })
	}
	return true
}

// walker decrypts a tree in place.
type walker struct {
	key    []byte
	rules  *rules
	mac    hash.Hash
	values []string
}

func (w *walker) mapping(n *yaml.Node, path []string) error {
	dropComments(n)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		dropComments(key)
		if key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" {
			return &Error{Line: key.Line, Path: strings.Join(path, "."), Message: "a key is not a string"}
		}
		if _, err := w.node(n.Content[i+1], append(slices.Clip(path), key.Value)); err != nil {
			return err
		}
	}
	return nil
}

// node decrypts what stands at a path. It tells whether that was a comment.
func (w *walker) node(n *yaml.Node, path []string) (comment bool, err error) {
	if len(path) > maxDepth {
		return false, &Error{Line: n.Line, Message: "it is nested too deep"}
	}
	dropComments(n)
	switch n.Kind {
	case yaml.MappingNode:
		return false, w.mapping(n, path)
	case yaml.SequenceNode:
		kept := n.Content[:0]
		for _, item := range n.Content {
			comment, err := w.node(item, path)
			if err != nil {
				return false, err
			}
			if !comment { // SOPS encrypts the comments of a list as its items
				kept = append(kept, item)
			}
		}
		n.Content = kept
		return false, nil
	case yaml.ScalarNode:
		return w.scalar(n, path)
	}
	return false, &Error{Line: n.Line, Path: strings.Join(path, "."), Message: "aliases are not expected in an encrypted file"}
}

func (w *walker) scalar(n *yaml.Node, path []string) (comment bool, err error) {
	fail := func(message string) error {
		return &Error{Line: n.Line, Path: strings.Join(path, "."), Message: message}
	}
	tag := n.ShortTag()
	if tag == "!!null" {
		return false, nil
	}
	looks := tag == "!!str" && strings.HasPrefix(n.Value, CiphertextPrefix)
	must := !w.rules.byComment && w.rules.demand(path)
	if w.rules.byComment {
		must = looks
	}
	if !must {
		if w.rules.macOnlyEncrypted {
			return false, nil
		}
		b, err := plainBytes(n)
		if err != nil {
			return false, fail(err.Error())
		}
		w.mac.Write(b)
		return false, nil
	}
	if tag == "!!str" && n.Value == "" {
		return false, nil // encrypted, nothing stays nothing
	}
	if !looks {
		return false, fail("it is not encrypted, and must be by the rules that the file was encrypted with")
	}
	plain, kind, err := open(w.key, n.Value, strings.Join(path, ":")+":")
	if err != nil {
		return false, fail(err.Error())
	}
	if kind == "comment" {
		return true, nil
	}
	b, err := become(n, string(plain), kind)
	if err != nil {
		return false, fail(err.Error())
	}
	w.mac.Write(b)
	w.values = append(w.values, string(plain))
	return false, nil
}

// become puts a decrypted value in a node's place, and gives what of it counts
// for the MAC.
func become(n *yaml.Node, plain, kind string) ([]byte, error) {
	bad := errors.New("what is decrypted is not of the type " + kind)
	var value any
	var err error
	switch kind {
	case "str", "bytes":
		value = plain
	case "int":
		value, err = strconv.Atoi(plain)
	case "float":
		value, err = strconv.ParseFloat(plain, 64)
	case "bool":
		value, err = strconv.ParseBool(plain)
	case "time":
		var t time.Time
		err = t.UnmarshalText([]byte(plain))
		value = t
	default:
		return nil, errors.New("it has an unknown type")
	}
	if err != nil {
		return nil, bad
	}
	if err := n.Encode(value); err != nil {
		return nil, bad
	}
	return macBytes(value)
}

// plainBytes is what of a plain value counts for the MAC.
func plainBytes(n *yaml.Node) ([]byte, error) {
	var value any
	if err := n.Decode(&value); err != nil {
		return nil, errors.New("it can't be read")
	}
	return macBytes(value)
}

func macBytes(value any) ([]byte, error) {
	switch v := value.(type) {
	case string:
		return []byte(v), nil
	case int:
		return []byte(strconv.Itoa(v)), nil
	case float64:
		return strconv.AppendFloat(nil, v, 'f', -1, 64), nil
	case bool:
		if v {
			return []byte("True"), nil
		}
		return []byte("False"), nil
	case time.Time:
		return v.MarshalText()
	}
	return nil, errors.New("SOPS has no such values")
}

// dropComments takes encrypted comments away. Nothing depends on them.
func dropComments(n *yaml.Node) {
	for _, c := range []*string{&n.HeadComment, &n.LineComment, &n.FootComment} {
		if strings.Contains(*c, CiphertextPrefix) {
			*c = ""
		}
	}
}
