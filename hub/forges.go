package hub

import (
	"net/http"

	"github.com/capstan-gitops/capstan/hub/desk"
	"github.com/capstan-gitops/capstan/hub/hooks"
)

// openHooks makes the handler of what forges call.
func openHooks(cfg Config, d *desk.Desk) (http.Handler, error) {
	if cfg.HookSecretsFile == "" {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			say(w, http.StatusNotFound, "this hub takes no webhooks of forges: it was started without --hook-secrets-file")
		}), nil
	}
	secrets, err := hooks.OpenSecrets(cfg.HookSecretsFile)
	if err != nil {
		return nil, err
	}
	return hooks.New(hooks.Config{
		Secrets: secrets, Pushed: d.GitPushed, Log: cfg.Log,
		Observe: func(provider string, o hooks.Outcome) { cfg.meters.Webhook(provider, string(o)) },
	})
}
