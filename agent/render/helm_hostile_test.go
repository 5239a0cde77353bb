package render_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/render"
	"github.com/capstan-gitops/capstan/agent/unit"
)

// entry is a member of an archive. Big ones are zeros.
type entry struct {
	name, content, link string
	big                 int64
}

func pack(t testing.TB, entries ...entry) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.content)) + e.big, Typeflag: tar.TypeReg}
		if e.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
		zeros := make([]byte, 1<<20)
		for left := e.big; left > 0; left -= int64(len(zeros)) {
			if _, err := w.Write(zeros[:min(left, int64(len(zeros)))]); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = w.Close()
	_ = z.Close()
	return b.String()
}

func subchart(name string) []entry {
	return []entry{
		{name: name + "/Chart.yaml", content: "apiVersion: v2\nname: " + name + "\nversion: 1.0.0\n"},
		{name: name + "/templates/x.yaml", content: fmt.Sprintf(configMap, name)},
	}
}

func TestPackedSubchartsAreOpenedWithinBounds(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	nested := pack(t, append(subchart("outer"), entry{name: "outer/charts/inner-1.0.0.tgz", content: pack(t, subchart("inner")...)})...)
	repo := chartOf(files{"templates/a.yaml": named("x"), "charts/outer-1.0.0.tgz": nested})
	if got := namesOf(t, r, askChart(repo, "c", nil)); got != "inner outer x" {
		t.Errorf("objects %s", got)
	}
	deep := pack(t, subchart("sub")...)
	for range 9 {
		deep = pack(t, append(subchart("sub"), entry{name: "sub/charts/sub.tgz", content: deep})...)
	}
	many := subchart("sub")
	for i := range 10_001 {
		many = append(many, entry{name: fmt.Sprintf("sub/files/%d", i)})
	}
	whole := pack(t, subchart("sub")...)
	for _, c := range []struct{ name, packed, message string }{
		{"up", pack(t, append(subchart("sub"), entry{name: "sub/../../etc/passwd", content: "x"})...), `c/charts/sub.tgz: "sub/../../etc/passwd" is not a path inside a chart`},
		{"absolute", pack(t, append(subchart("sub"), entry{name: "/etc/passwd", content: "x"})...), "is not a path inside a chart"},
		{"at the top", pack(t, append(subchart("sub"), entry{name: "Chart.yaml", content: "x"})...), "is not a path inside a chart"},
		{"Windows", pack(t, append(subchart("sub"), entry{name: `sub\..\..\x`, content: "x"})...), "is not a path inside a chart"},
		{"link", pack(t, append(subchart("sub"), entry{name: "sub/templates/l.yaml", link: "/etc/passwd"})...), "is a link or a device"},
		{"bomb", pack(t, append(subchart("sub"), entry{name: "sub/files/zero", big: 64 << 20})...), "over 32 MiB unpacked"},
		{"many", pack(t, many...), "more than 10000 files"},
		{"deep", deep, "packed in charts more than 8 deep"},
		{"cut short", whole[:len(whole)*2/3], "damaged or cut short"},
		{"garbage", "not an archive", "not a packed chart"},
		{"empty", pack(t), "the archive is empty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := refused(t, r, askChart(chartOf(files{"templates/a.yaml": named("x"), "charts/sub.tgz": c.packed}), "c", nil))
			if !strings.Contains(bad.Message, c.message) || !strings.Contains(bad.Message, "c/charts/") && c.name != "deep" {
				t.Errorf("got %q, want %q", bad.Message, c.message)
			}
		})
	}
}

func TestAHostileChartIsItsOwnErrorAndTheNextRenderWorks(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: time.Minute, Timeout: 10 * time.Second})
	schema := func(s string) files {
		return chartOf(files{"templates/a.yaml": named("x"), "values.schema.json": s})
	}
	template := func(s string) files { return chartOf(files{"templates/a.yaml": s}) }
	good := objectsOf(t, r, askChart(shop, "charts/shop", nil))
	for _, c := range []struct {
		name string
		repo files
		want string
		helm *unit.Helm
	}{
		{"a schema on the network", schema(`{"properties":{"a":{"$ref":"http://169.254.169.254/latest/meta-data"}}}`), `"http://169.254.169.254/latest/meta-data": schemas outside the file are refused`, nil},
		{"a schema over TLS", schema(`{"$ref":"https://user:hunter2@evil.example/s.json"}`), `"https://evil.example/s.json": schemas outside`, nil},
		{"a schema in a file", schema(`{"$ref":"file:///etc/passwd"}`), `"/etc/passwd": schemas outside the file are refused`, nil},
		{"a schema beside it", schema(`{"$ref":"other.json"}`), `other.json": schemas outside the file are refused`, nil},
		{"a schema by its id", schema(`{"$id":"https://evil.example/a.json","$ref":"b.json"}`), `"https://evil.example/b.json": schemas outside`, nil},
		{"a schema's own language", schema(`{"$schema":"https://evil.example/draft"}`), `"https://evil.example/draft": schemas outside`, nil},
		{"a schema by URN", schema(`{"$ref":"urn:evil:x"}`), `"urn:evil:x": schemas outside`, nil},
		{"a schema that is none", schema(`{"type":7}`), "not a schema", nil},
		{"a schema that is no JSON", schema(`{`), "not valid JSON", nil},
		{"include of itself", template("{{ define \"x\" }}{{ include \"x\" . }}{{ end }}{{ include \"x\" . }}"), "nested reference name", nil},
		{"template of itself", template("{{ define \"x\" }}{{ template \"x\" . }}{{ end }}{{ template \"x\" . }}"), "", nil},
		{"includes without end", template("{{ define \"x\" }}{{ range until 100 }}{{ include \"x\" $ }}{{ end }}{{ end }}{{ include \"x\" . }}"), "", nil},
		{"tpl of itself", template(`{{ tpl .Values.x . }}`), "", &unit.Helm{Values: []byte(`{"x":"{{ \"{{\" }} tpl .Values.x . }}"}`)}},
		{"output without end", template(`{{ range until 100000 }}{{ range until 100000 }}{{ "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" }}{{ end }}{{ end }}`), "", nil},
		{"a list without end", template(`{{ until 2000000000 | len }}`), "", nil},
		{"repeat", template(`{{ repeat 2000000000 "xxxx" }}`), "", nil},
		{"aliases in values", chartOf(files{"templates/a.yaml": named("x"), "values.yaml": bomb(9, 10)}), "aliases", nil},
		{"aliases in the cluster's values", template(named("x")), "aliases", &unit.Helm{ValuesFrom: []unit.ValuesDocument{{From: "ConfigMap a/b", Content: []byte(bomb(9, 10))}}}},
		{"aliases in the output", template(bomb(9, 10)), "", nil},
		{"a chart that holds itself", chartOf(files{"templates/a.yaml": named("x"), "charts/c": linkTo + ".."}), "nested more than 64 deep", nil},
		{"a link out", chartOf(files{"templates/a.yaml": named("x"), "files/x": linkTo + "../../../etc/passwd"}), "leaves the repository", nil},
		{"an environment variable", template(`{{ env "HOME" }}`), `function "env" not defined`, nil},
		{"no metadata", files{"c/Chart.yaml": "[]"}, "", nil},
		{"a null dependency", files{"c/Chart.yaml": "apiVersion: v2\nname: c\nversion: 1.0.0\ndependencies: [null]\n"}, "", nil},
		{"a name that climbs", files{"c/Chart.yaml": "apiVersion: v2\nname: ../../x\nversion: 1.0.0\n", "c/templates/a.yaml": named("x")}, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := refused(t, r, askChart(c.repo, "c", c.helm))
			if !strings.Contains(bad.Message, c.want) || strings.Contains(bad.Message, "hunter2") {
				t.Errorf("got %q, want %q", bad.Message, c.want)
			}
			t.Log(bad.Message)
		})
	}
	again := objectsOf(t, r, askChart(shop, "charts/shop", nil))
	for ref, was := range good {
		if again[ref] != was {
			t.Errorf("%s: %s, then %s", ref, was, again[ref])
		}
	}
}

// What lies beside the chart is not in it.
func TestAChartReadsItsOwnFilesAlone(t *testing.T) {
	r := newRenderer(t, render.Config{IdleAfter: time.Minute})
	repo := chartOf(files{"templates/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  a: {{ .Files.Get \"../secret\" | quote }}\n  b: {{ .Files.Get \"/etc/passwd\" | quote }}\n  c: {{ len (.Files.Glob \"../**\") | quote }}\n  d: {{ .Files.Get \"templates/a.yaml\" | quote }}\n"}).With(files{"secret": "x"})
	got := objectsOf(t, r, askChart(repo, "c", nil))["ConfigMap x"]
	if !strings.Contains(got, `"data":{"a":"","b":"","c":"0","d":""}`) {
		t.Error(got)
	}
}
