package reconcile

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// request is what to render for an app, with what the App's namespace adds to it.
func (e *Engine) request(v view, helm *unit.Helm, access unit.ChartAccess) unit.RenderRequest {
	spec := v.want.app.Spec
	return unit.RenderRequest{
		Snapshot: *v.snapshot, Path: spec.Source.Path, Facts: v.facts, Directory: directoryOf(spec.Source),
		Release: unit.Release{Name: v.name.Name, Namespace: spec.TargetNamespace}, Helm: helm, Access: access,
	}
}

// helmOf is nil where the App says nothing of Helm. It reads what the App's
// namespace adds; an error says what of it is not there.
func (e *Engine) helmOf(ctx context.Context, app *v1alpha1.App) (*unit.Helm, error) {
	s := app.Spec.Source.Helm
	if s == nil {
		return nil, nil
	}
	h := &unit.Helm{
		ReleaseName: s.ReleaseName, ValuesFiles: s.ValuesFiles, SkipCRDs: s.SkipCRDs, Hooks: unit.Hooks(s.Hooks), APIVersions: s.APIVersions,
	}
	if s.Values != nil {
		h.Values = s.Values.Raw
	}
	if c := s.Chart; c != nil {
		h.Chart = &unit.Chart{Repository: c.Repository, Name: c.Name, Version: c.Version, Digest: c.Digest}
	}
	for i, from := range s.ValuesFrom {
		doc, found, err := e.valuesFrom(ctx, app, from)
		if err != nil {
			return nil, fmt.Errorf("spec.source.helm.valuesFrom[%d]: %w", i, err)
		}
		if found {
			h.ValuesFrom = append(h.ValuesFrom, doc)
		}
	}
	return h, nil
}

// runsHelmHooks tells whether what Helm's annotations make a hook is one.
func runsHelmHooks(h *v1alpha1.AppHelm) bool {
	return h == nil || unit.Hooks(h.Hooks) != unit.HooksApply
}

// valuesFrom reads one ConfigMap's or Secret's values. The agent's own Secrets
// are out of reach: whoever writes to Git could otherwise have them shown.
func (e *Engine) valuesFrom(ctx context.Context, app *v1alpha1.App, r v1alpha1.AppValuesReference) (unit.ValuesDocument, bool, error) {
	namespace := app.Namespace
	ref := fleet.ObjectRef{Version: "v1", Kind: r.Kind, Namespace: namespace, Name: r.Name}
	if err := e.notOwn(ref); err != nil {
		return unit.ValuesDocument{}, false, err
	}
	live, err := e.reading(app).Get(ctx, ref)
	if err != nil && !errors.Is(err, fleet.ErrNotFound) {
		return unit.ValuesDocument{}, false, err
	}
	var content []byte
	found := false
	if live != nil {
		content, found, err = valueAt(live, r.Kind, r.Key)
	}
	switch {
	case err != nil && !errors.Is(err, fleet.ErrNotFound):
		return unit.ValuesDocument{}, false, err
	case found:
		return unit.ValuesDocument{From: fmt.Sprintf("%s %s/%s, key %s", r.Kind, namespace, r.Name, r.Key), Content: content}, true, nil
	case r.Optional:
		return unit.ValuesDocument{}, false, nil
	case live == nil:
		return unit.ValuesDocument{}, false, fleet.WithHint(fleet.NotFound("%s is not there", ref), "create it, or make the reference optional")
	}
	return unit.ValuesDocument{}, false, fleet.WithHint(fleet.NotFound("%s has no key %s", ref, r.Key), "add the key, or make the reference optional")
}

// ownSecrets is how the names of the agent's own Secrets begin, in its namespace.
const ownSecrets = "capstan-"

func (e *Engine) notOwn(ref fleet.ObjectRef) error {
	if ref.Kind != "Secret" || ref.Namespace != e.cfg.Namespace || !strings.HasPrefix(ref.Name, ownSecrets) {
		return nil
	}
	return fleet.WithHint(fleet.Forbidden("%s is the agent's own, and not for Apps", ref), "give the Secret another name, or put it and the App into another namespace")
}

// chartAccess reads what the place of an App's chart asks for. It is read where
// a render needs it, so it may rotate.
func (e *Engine) chartAccess(ctx context.Context, app *v1alpha1.App) (unit.ChartAccess, error) {
	h := app.Spec.Source.Helm
	if h == nil || h.Chart == nil || h.Chart.SecretRef == nil {
		return unit.ChartAccess{}, nil
	}
	ref := fleet.ObjectRef{Version: "v1", Kind: "Secret", Namespace: app.Namespace, Name: h.Chart.SecretRef.Name}
	if err := e.notOwn(ref); err != nil {
		return unit.ChartAccess{}, err
	}
	live, err := e.reading(app).Get(ctx, ref)
	if errors.Is(err, fleet.ErrNotFound) {
		err = fleet.WithHint(fleet.NotFound("%s is not there", ref), fmt.Sprintf("make it with: kubectl -n %s create secret generic %s --from-literal=username=... --from-literal=password=...", ref.Namespace, ref.Name))
	}
	if err != nil {
		return unit.ChartAccess{}, fmt.Errorf("spec.source.helm.chart.secretRef: %w", err)
	}
	var access unit.ChartAccess
	for key, value := range map[string]*string{"username": &access.Username, "password": &access.Password} {
		b, _, err := valueAt(live, "Secret", key)
		if err != nil {
			return unit.ChartAccess{}, err
		}
		*value = strings.TrimRight(string(b), "\r\n")
	}
	access.CA, _, err = valueAt(live, "Secret", "ca.crt")
	return access, err
}

// chartsMoved notes that a version of a chart has another archive than the one
// that is applied was rendered from.
func (e *Engine) chartsMoved(name fleet.AppName, was, now unit.ReadSet) {
	for chart, digest := range now.Charts {
		if before, ok := was.Charts[chart]; ok && before != digest {
			e.parts.Record.Event(name, true, "ChartReplaced", fmt.Sprintf("chart %s is another archive than before: %s, then %s", chart, before, digest))
		}
	}
}

func valueAt(live *unstructured.Unstructured, kind, key string) ([]byte, bool, error) {
	text, found, err := unstructured.NestedString(live.Object, "data", key)
	if err != nil || !found {
		return nil, false, err
	}
	if kind != "Secret" {
		return []byte(text), true, nil
	}
	content, err := base64.StdEncoding.DecodeString(text)
	return content, true, err
}

// valuesHash tells whether values from the cluster are the same as before, and
// nothing about them to whoever has no key.
func (e *Engine) valuesHash(h *unit.Helm) string {
	if h == nil || len(h.ValuesFrom) == 0 {
		return ""
	}
	mac := hmac.New(sha256.New, e.cfg.MaskKey)
	for _, d := range h.ValuesFrom {
		for _, part := range [][]byte{[]byte(d.From), d.Content} {
			_, _ = mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part)))) // a hash never fails
			_, _ = mac.Write(part)
		}
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// followValues has the apps looked at whose values are in the cluster, too, now
// and then: nothing else tells when those move.
func (e *Engine) followValues(ctx context.Context) {
	tick := time.NewTicker(cmp.Or(e.cfg.ValuesPoll, time.Minute))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		e.mu.Lock()
		for name := range e.world.wanted {
			w, _ := e.wanted(name)
			if h := w.app.Spec.Source.Helm; h != nil && len(h.ValuesFrom) > 0 {
				e.work.Add(name)
			}
		}
		e.mu.Unlock()
	}
}
