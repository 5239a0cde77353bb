package reconcile

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/capstan-gitops/capstan/agent/apply"
	"github.com/capstan-gitops/capstan/agent/inventory"
	"github.com/capstan-gitops/capstan/agent/state"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/apis/v1alpha1"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// ApplyAs says as whom apps are applied. The App objects themselves, which the
// root brings, are always the agent's own.
type ApplyAs struct {
	// Required: an App that names no ServiceAccount is refused.
	Required bool `json:"required,omitempty"`
	// Default is the ServiceAccount, in the App's namespace, of Apps that name none.
	Default string `json:"default,omitempty"`
	// Root is the ServiceAccount, in the agent's own namespace, for what the root
	// path holds besides Apps.
	Root string `json:"root,omitempty"`
}

// Validate's error begins with the field.
func (a ApplyAs) Validate() error {
	for field, name := range map[string]string{"default": a.Default, "root": a.Root} {
		if name == "" {
			continue
		}
		if err := v1alpha1.ValidateServiceAccountName(name); err != nil {
			return fmt.Errorf("applyAs.%s: %w", field, err)
		}
	}
	return nil
}

// account is the ServiceAccount that an App is to be applied as; "": the agent itself.
func (a ApplyAs) account(app *v1alpha1.App) string {
	return cmp.Or(app.Spec.ServiceAccountName, a.Default)
}

// acting is who acts on what an app has already: as it was last applied.
func (e *Engine) acting(k state.App) Cluster { return e.parts.Cluster.As(k.Name, k.Account) }

// actingOn is acting for one object. App objects are the agent's own.
func (e *Engine) actingOn(name fleet.AppName, ref fleet.ObjectRef) Cluster {
	e.mu.Lock()
	account := e.apps[name].kept.Account
	e.mu.Unlock()
	if isApp(ref) {
		account = ""
	}
	return e.parts.Cluster.As(name, account)
}

// reading is who reads what an App wants to be rendered with.
func (e *Engine) reading(app *v1alpha1.App) Cluster {
	return e.parts.Cluster.As(app.AppName(), e.cfg.ApplyAs.account(app))
}

const namelessMessage = "spec.serviceAccountName: is required on this cluster"

func namelessHint(name fleet.AppName) string {
	return fmt.Sprintf("name a ServiceAccount of namespace %s that may do what the app needs, and that the agent may act as (docs/rbac.md)", name.Namespace)
}

// nameless tells an App that nobody may be applied as: on this cluster the agent
// lends its own rights to none.
func (e *Engine) nameless(v view) bool {
	return v.want != nil && e.cfg.ApplyAs.Required && e.cfg.ApplyAs.account(v.want.app) == ""
}

// othersRefused says that the root brings more than Apps, and nobody to apply it as.
func (e *Engine) othersRefused(others []unit.Object) error {
	more := ""
	if n := len(others) - 1; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	message := fmt.Sprintf("the root path holds %s%s besides Apps, and on this cluster the agent applies nothing but Apps itself", others[0].Ref, more)
	hint := "put it into an App; or name a ServiceAccount of namespace " + e.cfg.Namespace + " in applyAs.root of the agent's configuration"
	e.trouble(e.root, problem{reason: "InvalidSpec", message: message, hint: hint, unknown: true})
	return nil
}

// rootSpec is what of the root goes into its digest, besides what it holds.
func rootSpec(path, account string) ([]byte, error) {
	spec := map[string]any{"source": map[string]any{"path": path}}
	if account != "" {
		spec["serviceAccountName"] = account
	}
	return fleet.Canonical(spec)
}

// withoutRefused takes out of the inventory again what was noted before it was
// sent, where it is certain that it was not made: whoever it was sent as had no
// right to it. Otherwise an app that never could be applied could not be taken away
// either, for want of the same right.
func withoutRefused(items []inventory.Item, fresh []unit.Object, err error) []inventory.Item {
	if !apply.AllRefused(err) {
		return items
	}
	refused := map[fleet.ObjectRef]bool{}
	for _, o := range fresh {
		refused[versionless(o.Ref)] = true
	}
	return slices.DeleteFunc(slices.Clone(items), func(it inventory.Item) bool {
		return it.UID == "" && refused[versionless(it.Ref)]
	})
}
