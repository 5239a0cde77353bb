package pipe_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/capstan-gitops/capstan/agent/render/pipe"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func sampleOutcome() pipe.Outcome {
	return pipe.Outcome{
		Path: "apps/x",
		Reads: unit.ReadSet{
			Paths:  map[string]unit.Read{"": {Kind: unit.ReadDir}, "a": {Kind: unit.ReadFile, Mode: unit.ModeRegular, Hash: unit.Hash{1}}},
			Labels: map[string]string{"env": "dev"}, Absent: []string{"region"}, Cluster: "c", Renderer: pipe.Version,
		},
		Objects: []unit.Object{{Ref: fleet.ObjectRef{Version: "v1", Kind: "ConfigMap", Name: "x"}, JSON: []byte(`{}`), Masked: []string{"/data/x"}}},
	}
}

func TestAnOutcomeSurvivesTheWay(t *testing.T) {
	good := sampleOutcome()
	bad := good
	bad.Objects, bad.Failure = nil, &pipe.Failure{File: "a", Line: 3, Message: "m", Hint: "h", Again: true}
	for _, o := range []pipe.Outcome{good, bad} {
		got, err := pipe.DecodeOutcome(o.Encode())
		if err != nil || !reflect.DeepEqual(got, o) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, o)
		}
	}
}

func sampleKey() pipe.AskKey {
	return pipe.AskKey{Any: []unit.WrappedKey{
		{Kind: unit.KeyAge, ID: "age1x", Ciphertext: []byte("c")},
		{Kind: unit.KeyAWS, ID: "arn", Attributes: map[string]string{"role": "r"}, Ciphertext: []byte("d")},
	}}
}

func TestAKeysQuestionAndAnswerSurviveTheWay(t *testing.T) {
	if got, err := pipe.DecodeAskKey(sampleKey().Encode()); err != nil || !reflect.DeepEqual(got, sampleKey()) {
		t.Errorf("got %+v, %v", got, err)
	}
	for want, k := range map[pipe.Status]pipe.Key{pipe.StatusOK: {Data: []byte("k")}, pipe.StatusRefused: {Message: "m", Hint: "h"}, pipe.StatusAway: {Message: "m", Hint: "h", Away: true}} {
		if got, s, err := pipe.DecodeKey(k.Encode()); err != nil || s != want || !reflect.DeepEqual(got, k) {
			t.Errorf("got %+v, %d, %v", got, s, err)
		}
	}
}

func FuzzReadFrame(f *testing.F) {
	var b bytes.Buffer
	_ = pipe.WriteFrame(&b, pipe.KindOutcome, sampleOutcome().Encode())
	f.Add(b.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 7})
	f.Add([]byte{0, 0, 1, 0, 7, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		k, body, err := pipe.ReadFrame(bytes.NewReader(data))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := pipe.WriteFrame(&again, k, body); err != nil || !bytes.HasPrefix(data, again.Bytes()) {
			t.Errorf("%v: %x is not %x", err, again.Bytes(), data)
		}
	})
}

func FuzzDecodeOutcome(f *testing.F) {
	f.Add(sampleOutcome().Encode())
	f.Add(pipe.Outcome{Failure: &pipe.Failure{Message: "m"}}.Encode())
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := pipe.DecodeOutcome(data)
		if err != nil {
			return
		}
		if again, err := pipe.DecodeOutcome(o.Encode()); err != nil || !reflect.DeepEqual(again, o) {
			t.Errorf("%+v became %+v, %v", o, again, err)
		}
	})
}

// Both sides read questions, answers and jobs that the other may have been made
// to write.
func FuzzDecodeMessages(f *testing.F) {
	f.Add(pipe.Job{Path: "a", Facts: unit.Facts{Cluster: "c", Labels: map[string]string{"env": "dev"}}, Directory: &unit.Directory{Recurse: true, Include: []string{"*"}}}.Encode())
	f.Add(pipe.Job{Path: "a", Release: unit.Release{Name: "a", Namespace: "n"}, Helm: &unit.Helm{ReleaseName: "r", Values: []byte(`{}`), ValuesFiles: []string{"v"}, ValuesFrom: []unit.ValuesDocument{{From: "x", Content: []byte("a: b")}}, Hooks: unit.HooksApply, APIVersions: []string{"v1"}, Chart: &unit.Chart{Repository: "oci://x", Name: "y", Version: "1.0.0"}}}.Encode())
	f.Add(pipe.AskTree{Dir: unit.Hash{1}}.Encode())
	f.Add(pipe.AskBlob{File: unit.Hash{1}, Most: 9}.Encode())
	f.Add(pipe.EncodeEntries([]unit.TreeEntry{{Name: "a", Mode: unit.ModeRegular, Hash: unit.Hash{2}}}))
	f.Add(pipe.AskChart{File: unit.ChartFile{Kind: unit.ChartLayer, Repository: "oci://x", Name: "y", Ref: "sha256:0"}}.Encode())
	f.Add(pipe.EncodeBlob([]byte("x")))
	f.Add(pipe.Refusal(pipe.StatusBudget))
	f.Add(pipe.Hello{Unconfined: "x", Renderer: pipe.Version}.Encode())
	f.Add(pipe.Setup{Memory: 1}.Encode())
	f.Add(sampleKey().Encode())
	f.Add(pipe.Key{Data: []byte("k")}.Encode())
	f.Add(pipe.Key{Message: "m", Hint: "h"}.Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if j, err := pipe.DecodeJob(data); err == nil {
			if again, err := pipe.DecodeJob(j.Encode()); err != nil || !reflect.DeepEqual(again, j) {
				t.Errorf("%+v became %+v, %v", j, again, err)
			}
		}
		if h, err := pipe.DecodeHello(data); err == nil {
			if again, err := pipe.DecodeHello(h.Encode()); err != nil || again != h {
				t.Errorf("%+v became %+v, %v", h, again, err)
			}
		}
		if e, s, err := pipe.DecodeEntries(data); err == nil && s == pipe.StatusOK {
			if again, _, err := pipe.DecodeEntries(pipe.EncodeEntries(e)); err != nil || !reflect.DeepEqual(again, e) {
				t.Errorf("%+v became %+v, %v", e, again, err)
			}
		}
		if a, err := pipe.DecodeAskKey(data); err == nil {
			if again, err := pipe.DecodeAskKey(a.Encode()); err != nil || !reflect.DeepEqual(again, a) {
				t.Errorf("%+v became %+v, %v", a, again, err)
			}
		}
		_, _, _ = pipe.DecodeKey(data)
		_, _ = pipe.DecodeSetup(data)
		_, _ = pipe.DecodeAskTree(data)
		_, _ = pipe.DecodeAskBlob(data)
		_, _ = pipe.DecodeAskChart(data)
		_, _, _ = pipe.DecodeBlob(data)
	})
}
