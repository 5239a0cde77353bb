package sops

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// metadata is what SOPS writes beside the values.
type metadata struct {
	mac          string
	lastModified time.Time
	groups       [][]unit.WrappedKey
	threshold    int
	rules        rules
}

// Bounds of what somebody may write into it.
const (
	maxGroups  = 64
	maxKeys    = 256 // of a file
	maxWrapped = 16 << 10
	maxField   = 4 << 10
)

var errMetadata = &Error{Message: "its sops metadata is not as SOPS writes it", Hint: "encrypt the file anew; sops decrypt says more"}

// fields is metadata as it was read: maps, lists and scalars.
type fields map[string]any

func (f fields) text(name string) string {
	switch v := f[name].(type) {
	case nil, map[string]any, []any:
		return ""
	case time.Time: // YAML reads a time where SOPS wrote one without quotes
		return v.Format(time.RFC3339)
	default:
		return fmt.Sprint(v)
	}
}

func (f fields) list(name string) []fields {
	items, _ := f[name].([]any)
	all := make([]fields, 0, len(items))
	for _, item := range items {
		m, _ := item.(map[string]any)
		all = append(all, m)
	}
	return all
}

// attributes are the fields of a wrapped key besides itself; what a map holds is
// named with a dot.
func (f fields) attributes() map[string]string {
	all := map[string]string{}
	for name, v := range f {
		if inner, ok := v.(map[string]any); ok {
			for k := range inner {
				all[name+"."+k] = fields(inner).text(k)
			}
			continue
		}
		if name != "enc" && name != "created_at" && f.text(name) != "" {
			all[name] = f.text(name)
		}
	}
	return all
}

// isMetadata tells SOPS' own from another thing of that name.
func (f fields) isMetadata() bool { return f["mac"] != nil || f["lastmodified"] != nil }

func readMetadata(f fields) (metadata, error) {
	m := metadata{mac: f.text("mac")}
	var err error
	if m.lastModified, err = time.Parse(time.RFC3339, f.text("lastmodified")); err != nil || m.mac == "" || len(m.mac) > maxField {
		return m, errMetadata
	}
	if t := f.text("shamir_threshold"); t != "" {
		if m.threshold, err = strconv.Atoi(t); err != nil || m.threshold < 0 {
			return m, errMetadata
		}
	}
	if m.rules, err = readRules(f); err != nil {
		return m, err
	}
	if own := readKeys(f); len(own) > 0 {
		m.groups = [][]unit.WrappedKey{own}
	} else {
		for _, g := range f.list("key_groups") {
			m.groups = append(m.groups, readKeys(g))
		}
	}
	return m, m.check()
}

func (m *metadata) check() error {
	total := 0
	for _, g := range m.groups {
		if total += len(g); len(g) == 0 {
			return &Error{Message: "it has a key group without a key that is known here", Hint: "encrypt the file anew"}
		}
		for _, k := range g {
			size := len(k.ID)
			for name, value := range k.Attributes {
				size += len(name) + len(value)
			}
			if size > maxField || len(k.Ciphertext) > maxWrapped || len(k.Ciphertext) == 0 {
				return errMetadata
			}
		}
	}
	switch {
	case len(m.groups) == 0:
		return &Error{Message: "its sops metadata names no key", Hint: "encrypt the file anew, for an age recipient whose key this cluster has"}
	case len(m.groups) > maxGroups || total > maxKeys:
		return &Error{Message: fmt.Sprintf("it is encrypted for %d keys in %d groups, more than %d in %d", total, len(m.groups), maxKeys, maxGroups)}
	case m.threshold > len(m.groups) || len(m.groups) > 1 && m.threshold == 1:
		return errMetadata
	}
	return nil
}

func readRules(f fields) (rules, error) {
	r := rules{
		unencryptedSuffix: f.text("unencrypted_suffix"), encryptedSuffix: f.text("encrypted_suffix"),
		byComment:        f.text("encrypted_comment_regex") != "" || f.text("unencrypted_comment_regex") != "",
		macOnlyEncrypted: strings.EqualFold(f.text("mac_only_encrypted"), "true"),
	}
	given := 0
	for _, name := range []string{"unencrypted_suffix", "encrypted_suffix", "unencrypted_regex", "encrypted_regex", "unencrypted_comment_regex", "encrypted_comment_regex"} {
		text := f.text(name)
		if len(text) > maxField {
			return r, errMetadata
		}
		if text != "" {
			given++
		}
	}
	if given > 1 {
		return r, &Error{Message: "its sops metadata has several rules for what is encrypted", Hint: "encrypt the file anew with one of them"}
	}
	if given == 0 {
		r.unencryptedSuffix = "_unencrypted"
	}
	for name, to := range map[string]**regexp.Regexp{"unencrypted_regex": &r.unencryptedRegex, "encrypted_regex": &r.encryptedRegex} {
		if text := f.text(name); text != "" {
			re, err := regexp.Compile(text)
			if err != nil {
				return r, &Error{Message: name + " of its sops metadata is no regular expression"}
			}
			*to = re
		}
	}
	return r, nil
}

// keyKinds are the lists that hold wrapped keys, and the fields of each that
// say which key it is.
var keyKinds = []struct {
	list string
	kind unit.KeyKind
	id   []string
	join string
}{
	{"age", unit.KeyAge, []string{"recipient"}, ""},
	{"kms", unit.KeyAWS, []string{"arn"}, ""},
	{"gcp_kms", unit.KeyGCP, []string{"resource_id"}, ""},
	{"azure_kv", unit.KeyAzure, []string{"vault_url", "name", "version"}, "/"},
	{"hc_vault", unit.KeyVault, []string{"vault_address", "engine_path", "key_name"}, "/"},
	{"hckms", unit.KeyOther, []string{"key_id"}, ""},
	{"pgp", unit.KeyPGP, []string{"fp"}, ""},
}

func readKeys(f fields) []unit.WrappedKey {
	var all []unit.WrappedKey
	for _, kind := range keyKinds {
		for _, item := range f.list(kind.list) {
			parts := make([]string, len(kind.id))
			for i, name := range kind.id {
				parts[i] = item.text(name)
			}
			all = append(all, unit.WrappedKey{
				Kind: kind.kind, ID: strings.Join(parts, kind.join), Attributes: item.attributes(), Ciphertext: []byte(item.text("enc")),
			})
		}
	}
	return all
}

// openMAC decrypts the code that all values are checked by.
func (m *metadata) openMAC(key []byte) (string, error) {
	mac, _, err := open(key, m.mac, m.lastModified.Format(time.RFC3339))
	if err != nil {
		return "", &Error{Message: "its MAC can't be decrypted: the metadata was changed after the file was encrypted", Hint: "encrypt the file anew"}
	}
	return string(mac), nil
}

// unflatten makes a tree of names like age__list_0__map_enc.
func unflatten(flat map[string]string) fields {
	root := map[string]any{}
	for name, value := range flat {
		place(root, name, value)
	}
	listed, _ := asLists(root, 0).(map[string]any)
	return listed
}

const (
	mapSeparator  = "__map_"
	listSeparator = "__list_"
)

// place follows a name down the tree. Items of a list are kept under their
// numbers until all are there.
func place(at map[string]any, name, value string) {
	for range maxDepth {
		i, m := strings.Index(name, listSeparator), strings.Index(name, mapSeparator)
		cut, skip, mark := i, len(listSeparator), "#"
		if i < 0 || m >= 0 && m < i {
			cut, skip, mark = m, len(mapSeparator), ""
		}
		if cut < 0 {
			at[name] = value
			return
		}
		key, rest := name[:cut], name[cut+skip:]
		next, ok := at[key].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[key] = next
		}
		at, name = next, mark+rest
	}
}

// asLists makes lists of the maps whose keys are numbers of items.
func asLists(v any, depth int) any {
	m, ok := v.(map[string]any)
	if !ok || depth > maxDepth {
		return v
	}
	var list []any
	for i := range len(m) {
		item, ok := m["#"+strconv.Itoa(i)]
		if !ok {
			break
		}
		list = append(list, asLists(item, depth+1))
	}
	if len(list) > 0 && len(list) == len(m) {
		return list
	}
	for k, item := range m {
		m[k] = asLists(item, depth+1)
	}
	return m
}
