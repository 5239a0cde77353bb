package sops_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	library "github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/decrypt"
	"sigs.k8s.io/yaml"

	"github.com/capstan-gitops/capstan/agent/render/worker/sops"
	"github.com/capstan-gitops/capstan/agent/render/worker/sops/sopstest"
	"github.com/capstan-gitops/capstan/agent/unit"
)

const secretYAML = `# the guestbook's password
apiVersion: v1
kind: Secret
metadata:
  name: guestbook
  annotations:
    note_unencrypted: as it is
# a comment of the data
stringData:
  password: hunter2-the-first # at the line's end
  empty: ""
  pem: |
    -----BEGIN KEY-----
    abcdef
    -----END KEY-----
  looks-like-a-number: "12345"
list:
# first
- one
# second
- two
- {name: three, value: 3}
- [nested, list]
number: 42
ratio: 1.5
big: 1e21
yes: true
no: false
none: null
time: 2026-01-02T03:04:05Z
`

var plains = map[string]struct{ name, text string }{
	"yaml":   {"secret.yaml", secretYAML},
	"json":   {"secret.json", `{"a": "hunter2", "n": 9007199254740993, "f": 1.25, "e": 1e3, "t": true, "l": ["x", {"y": null}, "<&>"], "é": "ü\n\t\"quoted\"", "empty": ""}`},
	"dotenv": {"app.env", "# a comment\nPASSWORD=hunter2\nURL=https://x/?a=b\nMULTI=one\\ntwo\nEMPTY=\n"},
	"ini":    {"app.ini", "; top\n[db]\n; the password\npassword = hunter2#;=\nport = 5432\n\n[other]\nx = y z\n"},
	"binary": {"app.conf", "any \x00 bytes\nhunter2\n"},
}

// same compares what both made of a file, as whoever reads such files would.
func same(t *testing.T, format string, ours, theirs []byte) {
	t.Helper()
	switch format {
	case "yaml", "json":
		var a, b any
		if err := yaml.Unmarshal(ours, &a); err != nil {
			t.Fatalf("%v:\n%s", err, ours)
		}
		if err := yaml.Unmarshal(theirs, &b); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(a, b) {
			t.Errorf("got\n%s\nand the library gives\n%s", ours, theirs)
		}
	case "dotenv", "ini":
		if a, b := withoutComments(ours), withoutComments(theirs); a != b {
			t.Errorf("got\n%q\nand the library gives\n%q", a, b)
		}
	default:
		if !bytes.Equal(ours, theirs) {
			t.Errorf("got\n%q\nand the library gives\n%q", ours, theirs)
		}
	}
}

func withoutComments(text []byte) string {
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		if line[0] != '#' && line[0] != ';' && strings.TrimSpace(line) != "" {
			b.WriteString(line)
		}
	}
	return b.String()
}

func recognized(t testing.TB, name string, content []byte) *sops.File {
	t.Helper()
	f, err := sops.Recognize(name, content)
	if err != nil {
		t.Fatal(err)
	}
	if f == nil {
		t.Fatalf("%s was not recognized:\n%s", name, content)
	}
	return f
}

func TestWhatTheLibraryEncryptsIsDecryptedAsTheLibraryDoes(t *testing.T) {
	id := newIdentity(t)
	t.Setenv("SOPS_AGE_KEY", id.String())
	rules := map[string]library.Metadata{
		"all":                     {},
		"unencrypted_suffix":      {UnencryptedSuffix: "_unencrypted"},
		"encrypted_suffix":        {EncryptedSuffix: "word"},
		"encrypted_regex":         {EncryptedRegex: "^(data|stringData|a|PASSWORD|password)$"},
		"unencrypted_regex":       {UnencryptedRegex: "^(metadata|kind|number|n|URL|port)$"},
		"mac_only_encrypted":      {EncryptedRegex: "^(data|stringData|a|PASSWORD|password)$", MACOnlyEncrypted: true},
		"encrypted_comment_regex": {EncryptedCommentRegex: "password"},
		"two keys":                {},
	}
	for format, plain := range plains {
		for rule, metadata := range rules {
			if format == "binary" && rule != "all" && rule != "two keys" {
				continue
			}
			t.Run(format+" "+rule, func(t *testing.T) {
				recipients := []string{id.Recipient().String()}
				if rule == "two keys" {
					recipients = []string{newIdentity(t).Recipient().String(), recipients[0]}
				}
				enc := encrypt(t, format, plain.text, metadata, recipients)
				want, err := decrypt.Data(enc, format)
				if err != nil {
					t.Fatal(err)
				}
				got, err := recognized(t, plain.name, enc).Decrypt(opener(id))
				if err != nil {
					t.Fatalf("%v\n%s", err, enc)
				}
				same(t, format, got.Content, want)
				if bytes.Contains(got.Content, []byte(sops.CiphertextPrefix)) {
					t.Errorf("something is encrypted still:\n%s", got.Content)
				}
			})
		}
	}
}

func TestEncryptedValuesAreTold(t *testing.T) {
	id := newIdentity(t)
	enc := encrypt(t, "yaml", "public: as-it-is\nsecret: {password: hunter2, pin: 1234}\n", library.Metadata{EncryptedRegex: "^secret$"}, []string{id.Recipient().String()})
	got, err := recognized(t, "a.yaml", enc).Decrypt(opener(id))
	if err != nil || !reflect.DeepEqual(got.Values, []string{"hunter2", "1234"}) {
		t.Errorf("%q, %v", got.Values, err)
	}
}

func TestDocumentsOfOneFileAreDecryptedTogether(t *testing.T) {
	id := newIdentity(t)
	t.Setenv("SOPS_AGE_KEY", id.String())
	enc := encrypt(t, "yaml", "a: one\n---\nb: two\n---\nc: [three]\n", library.Metadata{}, []string{id.Recipient().String()})
	got, err := recognized(t, "a.yaml", enc).Decrypt(opener(id))
	if err != nil || string(got.Content) != "a: one\n---\nb: two\n---\nc:\n- three\n" {
		t.Errorf("%s, %v", got.Content, err)
	}
}

func TestKeyGroupsNeedAsManyAsTheirThreshold(t *testing.T) {
	a, b, c := newIdentity(t), newIdentity(t), newIdentity(t)
	for _, format := range []string{"yaml", "dotenv"} {
		enc := encrypt(t, format, plains[format].text, library.Metadata{ShamirThreshold: 2},
			[]string{a.Recipient().String()}, []string{b.Recipient().String()}, []string{c.Recipient().String()})
		f := func() *sops.File { return recognized(t, plains[format].name, enc) }
		if _, err := f().Decrypt(opener(a, c)); err != nil {
			t.Errorf("%s: two of three: %v", format, err)
		}
		if _, err := f().Decrypt(opener(b)); err == nil {
			t.Errorf("%s: one of three was enough", format)
		}
		if got := f().Recipients(); len(got) != 3 {
			t.Errorf("%s: recipients %q", format, got)
		}
	}
}

// tampered changes an encrypted file in ways that must be noticed.
func TestAChangedFileIsRefused(t *testing.T) {
	id := newIdentity(t)
	to := []string{id.Recipient().String()}
	enc := string(encrypt(t, "yaml", "a: first-value\nb: second-value\nplain_unencrypted: x\n", library.Metadata{UnencryptedSuffix: "_unencrypted"}, to))
	only := string(encrypt(t, "yaml", "a: first-value\nplain: x\n", library.Metadata{EncryptedRegex: "^a$", MACOnlyEncrypted: true}, to))
	line := func(text, name string) string {
		for l := range strings.Lines(text) {
			if after, ok := strings.CutPrefix(l, name+": "); ok {
				return after
			}
		}
		t.Fatalf("no line %s in\n%s", name, text)
		return ""
	}
	for _, c := range []struct{ name, text, path string }{
		{"a plain value", strings.Replace(enc, "plain_unencrypted: x", "plain_unencrypted: y", 1), ""},
		{"a value gone", strings.Replace(enc, "b: "+line(enc, "b"), "", 1), ""},
		{"values swapped", strings.NewReplacer(line(enc, "a"), line(enc, "b"), line(enc, "b"), line(enc, "a")).Replace(enc), "a"},
		{"a value in clear", strings.Replace(enc, line(enc, "a"), "other\n", 1), "a"},
		{"a value in clear, with a MAC of the encrypted alone", strings.Replace(only, line(only, "a"), "other\n", 1), "a"},
		{"a bit of a value", strings.Replace(enc, line(enc, "a"), strings.Replace(line(enc, "a"), "data:", "data:AA", 1), 1), "a"},
		{"another time", strings.Replace(enc, "lastmodified: \"2", "lastmodified: \"3", 1), ""},
		{"the MAC", strings.Replace(enc, "mac: ENC[AES256_GCM,data:", "mac: ENC[AES256_GCM,data:AAAA", 1), ""},
		{"a nonce of nothing", strings.Replace(enc, line(enc, "a"), "ENC[AES256_GCM,data:AA==,iv:====,tag:AA==,type:str]\n", 1), "a"},
		{"an alias", strings.Replace(enc, "a: ", "c: &c x\nd: *c\na: ", 1), ""},
	} {
		f, err := sops.Recognize("a.yaml", []byte(c.text))
		if err == nil {
			if f == nil {
				t.Errorf("%s: not recognized", c.name)
				continue
			}
			_, err = f.Decrypt(opener(id))
		}
		var bad *sops.Error
		if !errors.As(err, &bad) {
			t.Errorf("%s: got %v", c.name, err)
			continue
		}
		if c.path != "" && bad.Path != c.path || bad.Path != "" && bad.Line == 0 {
			t.Errorf("%s: at line %d, %q: %v", c.name, bad.Line, bad.Path, bad)
		}
		if strings.Contains(err.Error(), "first-value") || strings.Contains(err.Error(), "ENC[") {
			t.Errorf("%s: it quotes the file: %v", c.name, err)
		}
	}
}

func TestOtherFilesAreLeftAlone(t *testing.T) {
	for name, text := range map[string]string{
		"values.yaml":   "sops:\n  enabled: true\n",
		".sops.yaml":    "creation_rules:\n- age: age1xyz\n",
		"doc.md":        "we use sops\nsops_mac is a name\n",
		"a.json":        `{"sops": "x", "mac": 1}`,
		"list.yaml":     "- sops\n",
		"broken.yaml":   "sops: {mac: [\n",
		"binary":        "\x00\x01sops\xff",
		"empty.yaml":    "",
		"app.ini":       "[sops]\nx = y\n",
		"many.yaml":     "a: 1\n---\nsops: {mac: x}\n",
		"template.yaml": "{{ if .Values.sops }}\n",
	} {
		if f, err := sops.Recognize(name, []byte(text)); f != nil || err != nil {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
}

func TestMetadataIsBounded(t *testing.T) {
	const head = "a: x\nsops:\n  mac: ENC[AES256_GCM,data:AA==,iv:AA==,tag:AA==,type:str]\n  lastmodified: \"2026-01-02T03:04:05Z\"\n"
	many := strings.Repeat("  - {recipient: age1x, enc: x}\n", 300)
	groups := "  key_groups:\n" + strings.Repeat("  - age: [{recipient: age1x, enc: x}]\n", 100)
	for name, text := range map[string]string{
		"no key":           head,
		"300 keys":         head + "  age:\n" + many,
		"100 groups":       head + groups,
		"a huge key":       head + "  age: [{recipient: age1x, enc: " + strings.Repeat("x", 1<<20) + "}]\n",
		"a huge recipient": head + "  age: [{enc: x, recipient: " + strings.Repeat("x", 1<<20) + "}]\n",
		"an empty group":   head + "  key_groups: [{age: []}]\n",
		"a bad threshold":  head + "  shamir_threshold: 9\n  age: [{recipient: age1x, enc: x}]\n",
		"a bad regex":      head + "  encrypted_regex: '['\n  age: [{recipient: age1x, enc: x}]\n",
		"two rules":        head + "  encrypted_regex: a\n  encrypted_suffix: b\n  age: [{recipient: age1x, enc: x}]\n",
		"aliases":          head + "  age: &a [{recipient: age1x, enc: x}]\n  pgp: *a\n",
		"lists for text":   head + "  age: [[[]]]\n",
		"nested deep":      head + "  age: " + strings.Repeat("[", 50) + strings.Repeat("]", 50) + "\n",
	} {
		if f, err := sops.Recognize("a.yaml", []byte(text)); err == nil {
			t.Errorf("%s: taken as %v", name, f)
		} else if bad := (*sops.Error)(nil); !errors.As(err, &bad) || len(err.Error()) > 300 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAWrongDataKeyIsRefused(t *testing.T) {
	id := newIdentity(t)
	enc := encrypt(t, "binary", "hunter2", library.Metadata{}, []string{id.Recipient().String()})
	for _, size := range []int{0, 16, 31, 32, 33} {
		_, err := recognized(t, "x", enc).Decrypt(func([]unit.WrappedKey) ([]byte, error) { return make([]byte, size), nil })
		if bad := (*sops.Error)(nil); !errors.As(err, &bad) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func FuzzRecognize(f *testing.F) {
	id := newIdentity(f)
	for format, plain := range plains {
		f.Add(plain.name, encrypt(f, format, plain.text, library.Metadata{}, []string{id.Recipient().String()}))
	}
	f.Add("a.yaml", []byte("a: x\nsops: {mac: x, lastmodified: y, age: [{enc: z}]}\n"))
	f.Add("a.env", []byte("sops_mac=x\nsops_age__list_0__map_enc=y\nsops_lastmodified=2026-01-02T03:04:05Z\n"))
	f.Add("a.ini", []byte("[sops]\nmac = x\nage__list_0__map_enc = y\n"))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		file, err := sops.Recognize(name, content)
		if file == nil {
			return
		}
		if err != nil {
			if bad := (*sops.Error)(nil); !errors.As(err, &bad) {
				t.Errorf("%T: %v", err, err)
			}
			return
		}
		_, _ = file.Decrypt(opener(id))
		_, _ = fmt.Fprint(&bytes.Buffer{}, file.Recipients())
	})
}

func TestWhatOtherTestsEncryptIsAsSOPSHasIt(t *testing.T) {
	private, recipient := sopstest.NewKey(t)
	t.Setenv("SOPS_AGE_KEY", private)
	for format, text := range map[string]string{
		"yaml":   sopstest.YAML(t, "a: x\ndata: {b: hunter2, c: [1, two]}\n---\ndata: y\n", "^data$", recipient),
		"binary": sopstest.Binary(t, "hunter2\n", recipient),
		"dotenv": sopstest.Dotenv(t, "A=hunter2\nB=x\n", recipient),
	} {
		if got, err := decrypt.Data([]byte(text), format); err != nil || bytes.Contains(got, []byte("ENC[")) {
			t.Errorf("%s: %s, %v", format, got, err)
		}
	}
}
