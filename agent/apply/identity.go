package apply

import (
	"fmt"
	"net/http"
	"sync"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// actor is the ServiceAccount that requests are sent as, and the app they are for.
type actor struct {
	app     fleet.AppName
	account string
}

// As gives a Client that acts for an app as a ServiceAccount of the app's own
// namespace; where account is "", as the agent itself. What kinds there are is
// known to all of them, and their requests share connections: an identity costs
// neither.
func (c *Client) As(app fleet.AppName, account string) *Client {
	as := *c
	as.actor = actor{app, account}
	as.api, as.failed = c.identities.api(as.actor)
	return &as
}

// maxIdentities bounds what is kept; one is made anew in microseconds.
const maxIdentities = 256

// identities makes the clients that send as somebody.
type identities struct {
	config *rest.Config
	http   *http.Client
	own    sender

	mu   sync.Mutex
	made map[string]sender // by user name
}

// sender sends requests as somebody.
type sender struct {
	dynamic.Interface
	plain rest.Interface // of the same: the other one gives no answer to a DELETE
}

func newSender(cfg *rest.Config, h *http.Client) (sender, error) {
	cfg = dynamic.ConfigFor(cfg)
	cfg.GroupVersion, cfg.APIPath = nil, "/of-each-request-its-own"
	plain, err := rest.UnversionedRESTClientForConfigAndClient(cfg, h)
	if err != nil {
		return sender{}, err
	}
	return sender{dynamic.New(plain), plain}, nil
}

func newIdentities(cfg *rest.Config) (*identities, error) {
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, err
	}
	own, err := newSender(cfg, h)
	if err != nil {
		return nil, err
	}
	return &identities{config: cfg, http: h, own: own, made: map[string]sender{}}, nil
}

// api sends as an actor. No groups are named: the API server adds those that
// every ServiceAccount has, and naming them would want another permission.
func (i *identities) api(a actor) (sender, error) {
	if a.account == "" {
		return i.own, nil
	}
	user := fmt.Sprintf("system:serviceaccount:%s:%s", a.app.Namespace, a.account)
	i.mu.Lock()
	defer i.mu.Unlock()
	if api, ok := i.made[user]; ok {
		return api, nil
	}
	h := *i.http
	h.Transport = transport.NewImpersonatingRoundTripper(transport.ImpersonationConfig{UserName: user}, roundTripper(i.http))
	api, err := newSender(i.config, &h)
	if err != nil {
		return sender{}, fmt.Errorf("requests as %s: %w", user, err)
	}
	if len(i.made) >= maxIdentities {
		clear(i.made)
	}
	i.made[user] = api
	return api, nil
}

func roundTripper(h *http.Client) http.RoundTripper {
	if h.Transport == nil {
		return http.DefaultTransport
	}
	return h.Transport
}
