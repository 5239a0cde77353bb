package plan_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/plan"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const secretValue = "hunter2"

var secretRef = fleet.ObjectRef{Version: "v1", Kind: "Secret", Namespace: "shop", Name: "db"}

func secret(value string) unit.Object {
	return unit.Object{Ref: secretRef, JSON: json.RawMessage(`{"apiVersion":"v1","data":{"password":"` + value + `"},"kind":"Secret","metadata":{"name":"db","namespace":"shop"},"stringData":{"also":"` + value + `"}}`)}
}

func digest(t *testing.T, key string, objects ...unit.Object) fleet.Digest {
	t.Helper()
	doc, err := plan.Document(json.RawMessage(`{}`), "url", objects, []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), secretValue) {
		t.Errorf("the document tells the secret: %s", b)
	}
	d, err := doc.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDocumentHidesSecretsAndStillTellsThemApart(t *testing.T) {
	a := digest(t, "key", secret(secretValue))
	if a != digest(t, "key", secret(secretValue)) {
		t.Error("the same secret gives two digests")
	}
	if a == digest(t, "key", secret("other")) {
		t.Error("two secrets give one digest")
	}
	if a == digest(t, "another spoke's key", secret(secretValue)) {
		t.Error("two spokes' digests of a secret can be compared")
	}
}

func TestDigestDoesNotDependOnOrder(t *testing.T) {
	a := unit.Object{Ref: fleet.ObjectRef{Version: "v1", Kind: "ConfigMap", Name: "a"}, JSON: json.RawMessage(`{"a":1}`)}
	b := unit.Object{Ref: fleet.ObjectRef{Version: "v1", Kind: "ConfigMap", Name: "b"}, JSON: json.RawMessage(`{"b":1}`)}
	if digest(t, "k", a, b) != digest(t, "k", b, a) {
		t.Error("the order in which objects are rendered moves the digest")
	}
}

func tree(t *testing.T, text string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestDiffOfASecretSaysOnlyThatItDiffers(t *testing.T) {
	live := tree(t, `{"metadata":{"name":"db","annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{hunter2}"}},"data":{"password":"hunter2","same":"x"}}`)
	becomes := tree(t, `{"metadata":{"name":"db"},"data":{"password":"other","same":"x"}}`)
	c := plan.Diff(unit.Object{Ref: secretRef}, live, becomes, []byte("key"))
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), secretValue) || strings.Contains(string(b), "hmac") {
		t.Errorf("the difference tells too much: %s", b)
	}
	if len(c.Fields) != 1 || c.Fields[0].Path != "/data/password" || !c.Fields[0].Masked {
		t.Errorf("got %s", b)
	}
}

func TestDiffLeavesOutWhatTheServerSets(t *testing.T) {
	ref := fleet.ObjectRef{Version: "v1", Kind: "ConfigMap", Name: "a"}
	live := tree(t, `{"metadata":{"uid":"1","resourceVersion":"5","generation":1,"managedFields":[{}]},"status":{"x":1},"data":{"a":"b"}}`)
	becomes := tree(t, `{"metadata":{"uid":"1","resourceVersion":"6","generation":2,"managedFields":[{},{}]},"status":{"x":2},"data":{"a":"b"}}`)
	if c := plan.Diff(unit.Object{Ref: ref}, live, becomes, nil); c.Action != fleet.Unchanged {
		t.Errorf("got %+v", c)
	}
}

func TestCompareNamesFieldsByPointer(t *testing.T) {
	from := tree(t, `{"a":{"b/c":1,"gone":true},"list":[1,2],"longer":[1]}`)
	to := tree(t, `{"a":{"b/c":2},"list":[1,3],"longer":[1,2],"new":"x"}`)
	var got []string
	for _, f := range plan.Compare(from, to) {
		got = append(got, f.Path+" "+string(f.From)+">"+string(f.To))
	}
	want := "/a/b~1c 1>2, /a/gone true>, /list/1 2>3, /longer [1]>[1,2], /new >\"x\""
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}

func FuzzCompare(f *testing.F) {
	f.Add(`{"a":[1,2]}`, `{"a":[1]}`)
	f.Fuzz(func(t *testing.T, a, b string) {
		var x, y any
		if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
			return
		}
		if len(plan.Compare(x, x)) != 0 {
			t.Error("a value differs from itself")
		}
		if (len(plan.Compare(x, y)) == 0) != (len(plan.Compare(y, x)) == 0) {
			t.Error("a difference depends on the direction")
		}
	})
}

func decrypted(json string, masked ...string) unit.Object {
	return unit.Object{Ref: fleet.ObjectRef{Version: "v1", Kind: "ConfigMap", Name: "c"}, JSON: []byte(json), Masked: masked}
}

func TestDecryptedValuesAreMaskedInAnyObject(t *testing.T) {
	o := decrypted(`{"data":{"a/b":"hunter2","shown":"x"},"list":[{"v":"hunter2"},{"v":"other"}],"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{hunter2}"}},"n":12345}`,
		"/data/a~1b", "/list/*/v", "/n")
	doc, err := plan.Document([]byte(`{}`), "u", []unit.Object{o}, []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(doc.Objects[0])
	for _, hidden := range []string{"hunter2", "other", "12345"} {
		if strings.Contains(text, hidden) {
			t.Errorf("%s is shown: %s", hidden, text)
		}
	}
	if !strings.Contains(text, `"shown":"x"`) {
		t.Errorf("too much is hidden: %s", text)
	}
}

func TestADecryptedValueMovesTheDigest(t *testing.T) {
	a := digest(t, "k", decrypted(`{"data":{"x":"hunter2"}}`, "/data/x"))
	if b := digest(t, "k", decrypted(`{"data":{"x":"hunter3"}}`, "/data/x")); a == b {
		t.Error("another value has the same digest")
	}
	if b := digest(t, "k", decrypted(`{"data":{"x":"hunter2"}}`, "/data/x")); a != b {
		t.Error("the same value has another digest")
	}
}

func TestDiffTellsNoDecryptedValue(t *testing.T) {
	for _, c := range []struct{ name, live, becomes string }{
		{"changed", `{"data":{"x":"hunter2-old"}}`, `{"data":{"x":"hunter2-new"}}`},
		{"added", `{"data":{}}`, `{"data":{"x":"hunter2-new"}}`},
		{"added with its parent", `{}`, `{"data":{"x":"hunter2-new"}}`},
		{"gone", `{"data":{"x":"hunter2-old"}}`, `{"data":{}}`},
		{"in a list that grew", `{"list":[{"v":"hunter2-old"}]}`, `{"list":[{"v":"x"},{"v":"hunter2-new"}]}`},
		{"below what is now a text", `{"data":{"x":{"y":"hunter2-old"}}}`, `{"data":{"x":"hunter2-new"}}`},
	} {
		change := plan.Diff(decrypted("", "/data/x", "/list/*/v"), tree(t, c.live), tree(t, c.becomes), []byte("key"))
		b, err := json.Marshal(change)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "hunter2") || len(change.Fields) == 0 {
			t.Errorf("%s: %s", c.name, b)
		}
	}
}
