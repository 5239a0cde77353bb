package watch

import (
	"fmt"
	"regexp"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// deniedError says that the agent has no right to see a kind.
type deniedError struct {
	resource schema.GroupResource
	err      error
}

func (e *deniedError) Error() string {
	return fmt.Sprintf("the agent may not list and watch %s", e.resource)
}
func (e *deniedError) Unwrap() error { return e.err }

// explain tells what is for a person to mend from what may go by itself.
func (k *kindWatch) explain(err error) error {
	if !apierrors.IsForbidden(err) {
		return err
	}
	r := k.resource.GroupResource()
	name, agent := "capstan-agent-watch-"+r.String(), "capstan-system:capstan-agent"
	if m := whom.FindStringSubmatch(err.Error()); m != nil {
		agent = m[1]
	}
	return fleet.WithHint(&deniedError{r, err}, fmt.Sprintf(
		"without it nobody sees how they are, or what others change of them; let it: kubectl create clusterrole %[1]s --verb=list,watch --resource=%[2]s && kubectl create clusterrolebinding %[1]s --clusterrole=%[1]s --serviceaccount=%[3]s",
		name, r, agent))
}

var whom = regexp.MustCompile(`User "system:serviceaccount:([^"]+)"`)
