package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// DefaultRetryInterval and DefaultMaxRetryInterval are when what failed is tried
// again where the App does not say.
const (
	DefaultRetryInterval    = time.Second
	DefaultMaxRetryInterval = 2 * time.Minute
)

// RetryEvery is the time to the first retry of what failed, and the longest
// between two.
func (s AppSync) RetryEvery() (first, longest time.Duration) {
	first, longest = DefaultRetryInterval, DefaultMaxRetryInterval
	if s.Retry != nil && s.Retry.Interval != nil {
		first = s.Retry.Interval.Duration
	}
	if s.Retry != nil && s.Retry.MaxInterval != nil {
		longest = s.Retry.MaxInterval.Duration
	}
	return first, max(first, longest)
}

func (r *AppRetry) validate() error {
	if r == nil {
		return nil
	}
	for name, d := range map[string]*metav1.Duration{"interval": r.Interval, "maxInterval": r.MaxInterval} {
		if d != nil && d.Duration < time.Second {
			return fleet.WithHint(fleet.Invalid("spec.sync.retry.%s: %s is less than 1s", name, d.Duration), "write it like 30s")
		}
	}
	return nil
}
