package watch

import (
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// assess tells an object's health as kstatus computes it, in the fleet's words.
func assess(u *unstructured.Unstructured) (fleet.Health, string) {
	r, err := status.Compute(u)
	if err != nil {
		return fleet.HealthUnknown, "its status can't be read"
	}
	switch r.Status {
	case status.CurrentStatus:
		return fleet.Healthy, ""
	case status.InProgressStatus, status.TerminatingStatus:
		return fleet.Progressing, r.Message
	case status.FailedStatus:
		return fleet.Degraded, r.Message
	case status.NotFoundStatus:
		return fleet.Missing, ""
	}
	return fleet.HealthUnknown, r.Message
}
