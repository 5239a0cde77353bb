package render

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// These decoders read what a worker wrote, which may have been taken over by
// what it rendered. They are not for other packages, so the test is inside.

func sampleOutcome() outcome {
	return outcome{
		path: "apps/x",
		reads: unit.ReadSet{
			Paths:  map[string]unit.Read{"": {Kind: unit.ReadDir}, "a": {Kind: unit.ReadFile, Mode: unit.ModeRegular, Hash: unit.Hash{1}}},
			Labels: map[string]string{"env": "dev"}, Absent: []string{"region"}, Cluster: "c", Renderer: version,
		},
		objects: []unit.Object{{Ref: fleet.ObjectRef{Version: "v1", Kind: "ConfigMap", Name: "x"}, JSON: []byte(`{}`)}},
	}
}

func TestAnOutcomeSurvivesTheWay(t *testing.T) {
	good := sampleOutcome()
	bad := good
	bad.objects, bad.failure = nil, &failure{file: "a", line: 3, message: "m", hint: "h"}
	for _, o := range []outcome{good, bad} {
		got, err := decodeOutcome(o.encode())
		if err != nil || !reflect.DeepEqual(got, o) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, o)
		}
	}
}

func FuzzReadFrame(f *testing.F) {
	var b bytes.Buffer
	_ = writeFrame(&b, kindOutcome, sampleOutcome().encode())
	f.Add(b.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 7})
	f.Add([]byte{0, 0, 1, 0, 7, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		k, body, err := readFrame(bytes.NewReader(data))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := writeFrame(&again, k, body); err != nil || !bytes.HasPrefix(data, again.Bytes()) {
			t.Errorf("%v: %x is not %x", err, again.Bytes(), data)
		}
	})
}

func FuzzDecodeOutcome(f *testing.F) {
	f.Add(sampleOutcome().encode())
	f.Add(outcome{failure: &failure{message: "m"}}.encode())
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := decodeOutcome(data)
		if err != nil {
			return
		}
		if again, err := decodeOutcome(o.encode()); err != nil || !reflect.DeepEqual(again, o) {
			t.Errorf("%+v became %+v, %v", o, again, err)
		}
	})
}

func FuzzFillPath(f *testing.F) {
	for _, s := range []string{"a/b", `a/{{ label "env" }}`, "{{.cluster.name}}/x", "{{ label `a` }}", "../x", "a/../../b", "{{", "}}", "a\\b", "/x", "{{ label \"up\" }}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, template string) {
		reads := unit.ReadSet{}
		p, err := fillPath(template, facts{known: unit.Facts{Cluster: "c-1", Labels: map[string]string{"env": "dev", "up": ".."}}, reads: &reads})
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without words")
			}
			return
		}
		if strings.HasPrefix(p, "/") || p == ".." || strings.HasPrefix(p, "../") || strings.Contains(p, "/../") || strings.Contains(p, "//") {
			t.Errorf("%q became %q", template, p)
		}
	})
}

func FuzzAliases(f *testing.F) {
	f.Add("a: &a [x]\nb: [*a, *a]\n")
	f.Add("a: &a [*a]\n")
	f.Add("p: |\n  a: &a [x]\n  b: *a\n")
	f.Fuzz(func(_ *testing.T, content string) {
		_ = checkAliases("f", []byte(content))
		_ = secretValues(content)
	})
}
