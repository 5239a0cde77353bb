package worker

import (
	"fmt"
	"net/http"
	"sync/atomic"
)

const remoteHint = "commit what it names into this repository: renders read nothing else"

// noNetwork stands where kustomize takes its HTTP client from. Kustomize
// swallows some errors, so what was refused is kept until it is asked for.
type noNetwork struct{ refused atomic.Pointer[failure] }

var _ http.RoundTripper = (*noNetwork)(nil)

// RoundTrip implements http.RoundTripper.
func (n *noNetwork) RoundTrip(r *http.Request) (*http.Response, error) {
	f := &failure{message: fmt.Sprintf("%s://%s: remote files are refused", r.URL.Scheme, r.URL.Host), hint: remoteHint}
	n.refused.CompareAndSwap(nil, f)
	return nil, f
}

func refuseNetwork() *noNetwork {
	n := &noNetwork{}
	http.DefaultTransport = n
	http.DefaultClient = &http.Client{Transport: n}
	return n
}
