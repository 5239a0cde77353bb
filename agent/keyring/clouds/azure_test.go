package clouds_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/capstan-gitops/capstan/agent/keyring"
	"github.com/capstan-gitops/capstan/agent/keyring/clouds/cloudstest"
	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func TestAzureKeyVaultDecrypts(t *testing.T) {
	azure := cloudstest.Azure(t)
	const vault = "https://" + cloudstest.AzureHost
	r := ring(t, keyring.KMSConfig{Azure: []keyring.AzureKey{{VaultURL: vault, Name: "sops"}}}, 0)
	key := cloudstest.AzureKey(vault, "sops", "0123abcd")
	wrapped := []unit.WrappedKey{key.Wrapped(cloudstest.AzureWrapped("sops", []byte(dataKey)))}
	if got, err := r.Open(t.Context(), wrapped); string(got) != dataKey {
		t.Errorf("%q, %v", got, err)
	}
	if asked := azure.Asked(); !slices.Contains(asked, "decrypt /keys/sops/0123abcd") {
		t.Errorf("it was asked %q", asked)
	}
	var away *unit.KeysAway
	_, err := r.Open(t.Context(), []unit.WrappedKey{key.Wrapped(cloudstest.AzureWrapped("other", []byte(dataKey)))})
	if err == nil || errors.As(err, &away) || !strings.Contains(err.Error(), "BadParameter") || fleet.Hint(err) == "" {
		t.Errorf("another key's: %v", err)
	}
	azure.Set(cloudstest.Denied)
	_, err = r.Open(t.Context(), wrapped)
	if !errors.As(err, &away) || !strings.Contains(err.Error(), "403") || !strings.Contains(fleet.Hint(err), "Decrypt") {
		t.Errorf("denied: %v", err)
	}
	if err := cloudstest.Told(err); err != nil {
		t.Error(err)
	}
}
