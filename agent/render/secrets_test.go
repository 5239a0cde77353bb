package render_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/capstan-gitops/capstan/agent/render"
	"github.com/capstan-gitops/capstan/agent/render/worker/sops/sopstest"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const planted = "hunter2-planted"

// ring has one age key.
type ring struct{ age.Identity }

func ringWith(t testing.TB, private string) unit.KeyRing {
	t.Helper()
	ids, err := age.ParseIdentities(strings.NewReader(private))
	if err != nil {
		t.Fatal(err)
	}
	return ring{ids[0]}
}

func (r ring) Version() string { return r.Identity.(*age.X25519Identity).Recipient().String() }

func (r ring) Open(_ context.Context, any []unit.WrappedKey) ([]byte, error) {
	for _, k := range any {
		if plain, err := age.Decrypt(armor.NewReader(bytes.NewReader(k.Ciphertext)), r.Identity); err == nil {
			return io.ReadAll(plain)
		}
	}
	return nil, fleet.WithHint(fleet.NotFound("no key here is for %s", any[0].ID), "add it")
}

func withKeys(repo files, ring unit.KeyRing) unit.RenderRequest {
	q := ask(repo, "a")
	q.Keys, q.Facts.Keys = ring, ring.Version()
	return q
}

func secretOf(name, password string) string {
	return "apiVersion: v1\nkind: Secret\nmetadata: {name: " + name + "}\nstringData: {password: " + password + "}\n"
}

const onlyData = "^(data|stringData)$"

// Every way in which a file gets into a render.
func encryptedRepos(t *testing.T, to string) map[string]files {
	t.Helper()
	k := func(text string) files { return files{"a/kustomization.yaml": text} }
	configMap := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {x: " + planted + "}\n"
	return map[string]files{
		"plain manifests":     {"a/s.yaml": sopstest.YAML(t, secretOf("s", planted), onlyData, to)},
		"a resource":          k("resources: [s.yaml]\n").With(files{"a/s.yaml": sopstest.YAML(t, configMap, onlyData, to)}),
		"a patch":             k("configMapGenerator: [{name: c, literals: [x=y], options: {disableNameSuffixHash: true}}]\npatches: [{path: p.yaml}]\n").With(files{"a/p.yaml": sopstest.YAML(t, configMap, onlyData, to)}),
		"a generator's file":  k("configMapGenerator: [{name: c, files: [app.conf]}]\n").With(files{"a/app.conf": sopstest.Binary(t, "user = root\npassword = "+planted+"\n", to)}),
		"a secret's file":     k("secretGenerator: [{name: c, files: [app.conf]}]\n").With(files{"a/app.conf": sopstest.Binary(t, planted, to)}),
		"a generator's envs":  k("configMapGenerator: [{name: c, envs: [app.env]}]\n").With(files{"a/app.env": sopstest.Dotenv(t, "PASSWORD="+planted+"\n", to)}),
		"a component":         k("components: [../b]\n").With(files{"b/kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [s.yaml]\n", "b/s.yaml": sopstest.YAML(t, configMap, onlyData, to)}),
		"a symbolic link":     {"a/s.yaml": linkTo + "../b/s.yaml", "b/s.yaml": sopstest.YAML(t, configMap, onlyData, to)},
		"a replacement":       k("resources: [s.yaml, d.yaml]\nreplacements:\n- source: {kind: ConfigMap, name: c, fieldPath: data.x}\n  targets: [{select: {kind: ConfigMap, name: d}, fieldPaths: [data.y]}]\n").With(files{"a/s.yaml": sopstest.YAML(t, configMap, onlyData, to), "a/d.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: d}\ndata: {y: z}\n"}),
		"everything of it":    {"a/s.yaml": sopstest.YAML(t, secretOf("s", planted), ".", to)},
		"documents of a file": {"a/s.yaml": sopstest.YAML(t, secretOf("s", planted)+"---\n"+configMap, onlyData, to)},
	}
}

func TestEncryptedFilesAreDecryptedWhereverTheyAreRead(t *testing.T) {
	private, to := sopstest.NewKey(t)
	other, _ := sopstest.NewKey(t)
	right, wrong := ringWith(t, private), ringWith(t, other)
	r := newRenderer(t, render.Config{})
	for name, repo := range encryptedRepos(t, to) {
		t.Run(name, func(t *testing.T) {
			got, err := r.Render(t.Context(), withKeys(repo, right))
			if err != nil {
				t.Fatal(err)
			}
			found := 0
			for _, o := range got.Objects {
				holds := strings.Contains(string(o.JSON), planted) || strings.Contains(string(o.JSON), base64.StdEncoding.EncodeToString([]byte(planted)))
				if holds {
					found++
				}
				if holds != (len(o.Masked) > 0) {
					t.Errorf("%s: masked at %q:\n%s", o.Ref, o.Masked, o.JSON)
				}
			}
			if found == 0 {
				t.Errorf("nothing was decrypted: %s", got.Objects)
			}
			if got.Reads.Keys != right.Version() {
				t.Errorf("the read-set does not hold the keys: %q", got.Reads.Keys)
			}
			bad := refused(t, r, withKeys(repo, wrong))
			if !strings.Contains(bad.Message, to) || bad.File == "" || bad.Hint == "" || bad.Reads.Keys != wrong.Version() {
				t.Errorf("with the wrong key: %+v", bad)
			}
			bad = refused(t, r, ask(repo, "a"))
			if !strings.Contains(bad.Hint, "spec.decryption") || !strings.Contains(bad.Message, bad.File) || bad.File == "" {
				t.Errorf("without decryption: %+v", bad)
			}
		})
	}
}

func TestNothingThatIsEncryptedIsApplied(t *testing.T) {
	private, to := sopstest.NewKey(t)
	whole := sopstest.YAML(t, secretOf("s", planted), onlyData, to)
	cut, _, _ := strings.Cut(whole, "sops:")
	env := sopstest.Dotenv(t, "PASSWORD="+planted+"\n", to)
	line, _, _ := strings.Cut(env, "\n")
	for name, repo := range map[string]files{
		"without its metadata":           {"a/s.yaml": cut},
		"in a Secret's generator":        {"a/kustomization.yaml": "secretGenerator: [{name: x, envs: [app.env]}]\n", "a/app.env": line + "\n"},
		"in a ConfigMap's generator":     {"a/kustomization.yaml": "configMapGenerator: [{name: x, envs: [app.env]}]\n", "a/app.env": line + "\n"},
		"as an inline literal":           {"a/kustomization.yaml": "configMapGenerator: [{name: x, literals: ['" + line + "']}]\n"},
		"with metadata of another shape": {"a/s.yaml": strings.Replace(whole, "lastmodified:", "last:", 1)},
	} {
		r := newRenderer(t, render.Config{})
		for _, q := range []unit.RenderRequest{ask(repo, "a"), withKeys(repo, ringWith(t, private))} {
			if bad := refused(t, r, q); strings.Contains(bad.Message, "ENC[") || bad.Hint == "" {
				t.Errorf("%s: %+v", name, bad)
			}
		}
	}
}

func TestErrorsAboutDecryptedFilesQuoteNothing(t *testing.T) {
	private, to := sopstest.NewKey(t)
	r := newRenderer(t, render.Config{})
	tampered := sopstest.YAML(t, secretOf("s", planted), onlyData, to)
	tampered = strings.Replace(tampered, "name: s", "name: t", 1)
	for name, repo := range map[string]files{
		"a changed value":           {"a/s.yaml": tampered},
		"not an object":             {"a/s.yaml": sopstest.YAML(t, "kind: "+planted+"\n", ".", to)},
		"a name that is no text":    {"a/s.yaml": sopstest.YAML(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: ["+planted+"]}\n", ".", to)},
		"a patch that fits nothing": {"a/kustomization.yaml": "configMapGenerator: [{name: c}]\npatches: [{path: p.yaml}]\n", "a/p.yaml": sopstest.YAML(t, secretOf(planted, planted), ".", to)},
		"a JSON patch":              {"a/kustomization.yaml": "configMapGenerator: [{name: c}]\npatches: [{path: p.yaml, target: {kind: ConfigMap}}]\n", "a/p.yaml": sopstest.Binary(t, "- {op: replace, path: /data/x, value: "+planted+"}\n", to)},
		"no YAML":                   {"a/kustomization.yaml": "resources: [s.yaml]\n", "a/s.yaml": sopstest.Binary(t, "a: ["+planted+"\n", to)},
		"aliases of aliases":        {"a/kustomization.yaml": "configMapGenerator: [{name: c, files: [s]}]\npatches: [{path: s}]\n", "a/s": sopstest.Binary(t, bomb(9, 10)+"x: "+planted+"\n", to)},
	} {
		bad := refused(t, r, withKeys(repo, ringWith(t, private)))
		if strings.Contains(bad.Message+bad.Hint, planted) {
			t.Errorf("%s: %s", name, bad.Message)
		}
		t.Log(bad.Message)
	}
}

// countingRing counts, and can be told to be away.
type countingRing struct {
	unit.KeyRing
	asked atomic.Int64
	away  atomic.Bool
}

func (c *countingRing) Open(ctx context.Context, any []unit.WrappedKey) ([]byte, error) {
	c.asked.Add(1)
	if c.away.Load() {
		return nil, &unit.KeysAway{Err: errors.New("nobody answers")}
	}
	return c.KeyRing.Open(ctx, any)
}

func TestKeysThatCantBeAskedAreNotTheRepositorysFault(t *testing.T) {
	private, to := sopstest.NewKey(t)
	ring := &countingRing{KeyRing: ringWith(t, private)}
	ring.away.Store(true)
	repo := files{"a/s.yaml": sopstest.YAML(t, secretOf("s", planted), onlyData, to)}
	r := newRenderer(t, render.Config{})
	_, err := r.Render(t.Context(), withKeys(repo, ring))
	var bad *unit.RenderError
	var away *unit.KeysAway
	if errors.As(err, &bad) || !errors.As(err, &away) {
		t.Errorf("got %v", err)
	}
	ring.away.Store(false)
	if _, err := r.Render(t.Context(), withKeys(repo, ring)); err != nil {
		t.Errorf("when they can be asked again: %v", err)
	}
}

func TestAFloodOfKeyQuestionsIsBounded(t *testing.T) {
	private, to := sopstest.NewKey(t)
	ring := &countingRing{KeyRing: ringWith(t, private)}
	repo := files{}
	text := sopstest.YAML(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: b}\n", onlyData, to)
	for i := range 1100 {
		repo[fmt.Sprintf("a/%04d.yaml", i)] = strings.Replace(text, "name: x", "name: x", 1) + fmt.Sprintf("# %d\n", i)
	}
	bad := refused(t, newRenderer(t, render.Config{}), withKeys(files{"a/kustomization.yaml": "resources: [" + strings.Join(names(1100), ", ") + "]\n"}.With(repo), ring))
	if n := ring.asked.Load(); n > 1000 {
		t.Errorf("%d keys were asked for", n)
	}
	t.Log(bad.Message)
}

func names(n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("%04d.yaml", i))
	}
	return all
}

// What rendered somebody else's files may have been taken over by them: it gets
// no key. And what decrypted something renders nothing else.
func TestAWorkerThatGetsAKeyRendersNothingElse(t *testing.T) {
	private, to := sopstest.NewKey(t)
	ring := ringWith(t, private)
	secret := files{"a/s.yaml": sopstest.YAML(t, secretOf("s", planted), onlyData, to)}
	r := newRenderer(t, render.Config{})
	var starts []int64
	for _, q := range []unit.RenderRequest{
		ask(guestbook, devOverlay), withKeys(secret, ring), withKeys(secret, ring), ask(guestbook, devOverlay), withKeys(guestbook.With(files{"a/x.yaml": secretOf("x", "plain")}), ring),
	} {
		if _, err := r.Render(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		starts = append(starts, r.Stats().Starts)
	}
	if !slices.Equal(starts, []int64{1, 2, 3, 4, 4}) {
		t.Errorf("workers started: %d", starts)
	}
}

func TestDecryptedValuesAreFoundInOtherForms(t *testing.T) {
	private, to := sopstest.NewKey(t)
	pem := "-----BEGIN KEY-----\nMIIabcdefgh\nMIIijklmnop\n-----END KEY-----\n"
	for name, c := range map[string]struct{ value, data string }{
		"inside a text":      {planted, "url: https://x:" + planted + "@db/"},
		"inside base64":      {planted, "auth: " + base64.StdEncoding.EncodeToString([]byte("user:"+planted))},
		"in JSON in a text":  {`a"b\c-long`, `json: '{"p":"a\"b\\c-long"}'`},
		"a line of a longer": {pem, "line: '  MIIijklmnop'"},
		"a setting":          {"user: x\npassword: \"" + planted + "\"\n", "p: " + planted},
		"a number":           {"918273", "n: '918273'"},
	} {
		repo := files{
			"a/kustomization.yaml": "resources: [s.yaml, c.yaml]\n",
			"a/s.yaml":             sopstest.YAML(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {v: "+fmt.Sprintf("%q", c.value)+"}\n", onlyData, to),
			"a/c.yaml":             "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  other: visible\n  " + c.data + "\n",
		}
		got, err := newRenderer(t, render.Config{}).Render(t.Context(), withKeys(repo, ringWith(t, private)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		i := slices.IndexFunc(got.Objects, func(o unit.Object) bool { return o.Ref.Kind == "ConfigMap" })
		if m := got.Objects[i].Masked; len(m) != 1 || m[0] == "/data/other" {
			t.Errorf("%s: masked at %q", name, m)
		}
	}
}

func TestChartsAreGivenDecryptedValues(t *testing.T) {
	private, to := sopstest.NewKey(t)
	repo := files{
		"a/Chart.yaml":            "apiVersion: v2\nname: shop\nversion: 1.0.0\n",
		"a/values.yaml":           "password: none\nshown: visible\n",
		"a/prod.yaml":             sopstest.YAML(t, "password: "+planted+"\n", "^password$", to),
		"a/templates/config.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  url: https://root:{{ .Values.password }}@db\n  from: {{ .Values.from | quote }}\n  shown: {{ .Values.shown }}\n",
	}
	q := withKeys(repo, ringWith(t, private))
	q.Helm = &unit.Helm{ValuesFiles: []string{"prod.yaml"}, ValuesFrom: []unit.ValuesDocument{{From: "Secret shop/values, key v", Content: []byte("from: from-a-secret\n")}}}
	q.Release = unit.Release{Name: "shop", Namespace: "shop"}
	got, err := newRenderer(t, render.Config{}).Render(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if o := got.Objects[0]; !strings.Contains(string(o.JSON), planted) || !slices.Equal(o.Masked, []string{"/data/from", "/data/url"}) {
		t.Errorf("masked at %q: %s", o.Masked, o.JSON)
	}
}
