package worker_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"testing"

	"github.com/capstan-gitops/capstan/agent/render/worker"
)

func tgz(name, content string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg})
	_, _ = w.Write([]byte(content))
	_ = w.Close()
	_ = z.Close()
	return b.Bytes()
}

// An archive gives files inside the chart and within its bounds, or an error.
func FuzzUnpackChart(f *testing.F) {
	f.Add(tgz("x/Chart.yaml", "apiVersion: v2\nname: x\nversion: 1.0.0\n"))
	f.Add(tgz("x/../../etc/passwd", "x"))
	f.Add(tgz("x/charts/y.tgz", string(tgz("y/Chart.yaml", "name: y\n"))))
	f.Fuzz(func(t *testing.T, data []byte) {
		names, size, err := worker.UnpackChart(data)
		if err != "" {
			return
		}
		if size > 32<<20 || len(names) > 10_000 {
			t.Errorf("%d files, %d bytes", len(names), size)
		}
		for _, name := range names {
			if name == "" || name[0] == '/' || bytes.Contains([]byte("/"+name+"/"), []byte("/../")) {
				t.Errorf("%q is not inside the chart", name)
			}
		}
	})
}

// The part of an index that is cut out says the same as the whole.
func FuzzIndex(f *testing.F) {
	f.Add([]byte("apiVersion: v1\nentries:\n  other:\n  - version: 1.0.0\n  shop:\n  - urls:\n    - a.tgz\n    version: 1.0.0\n  zoo: []\n"))
	f.Add([]byte(`{"entries":{"shop":[{"version":"1.0.0","urls":["a"]}]}}`))
	f.Add([]byte("entries:\n  shop:\n    - {version: v1.0.0, digest: x}\n"))
	f.Fuzz(func(t *testing.T, index []byte) {
		version, err := worker.Indexed(index, "shop", "1.0.0")
		if err == "" && version != "1.0.0" && version != "v1.0.0" {
			t.Errorf("1.0.0 is %q", version)
		}
	})
}
