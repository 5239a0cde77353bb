package tripwire_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/capstan-gitops/capstan/e2e/tripwire"
)

// api is an API server that notes which Secrets it was asked to make.
type api struct {
	mu   sync.Mutex
	made []string
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var s corev1.Secret
	if r.Method == http.MethodPost {
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		a.mu.Lock()
		a.made = append(a.made, s.Name)
		a.mu.Unlock()
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s)
}

func (a *api) names() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.made)
}

// play gives a client that speaks to an API server through a wire.
func play(t *testing.T, see func(tripwire.Request)) (*api, *tripwire.Wire, *kubernetes.Clientset) {
	t.Helper()
	a := &api{}
	server := httptest.NewUnstartedServer(a)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["c"] = &clientcmdapi.Cluster{
		Server: server.URL, CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
	}
	cfg.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: "t"}
	cfg.Contexts["c"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	cfg.CurrentContext = "c"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	must(t, clientcmd.WriteToFile(*cfg, path))
	wire, err := tripwire.New(path, see)
	must(t, err)
	t.Cleanup(wire.Close)
	must(t, wire.Lead(path))
	through, err := clientcmd.BuildConfigFromFlags("", path)
	must(t, err)
	// As text, so that a few lines are an API server.
	through.ContentType, through.AcceptContentTypes = "application/json", "application/json"
	client, err := kubernetes.NewForConfig(through)
	must(t, err)
	return a, wire, client
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestItTripsAtOneRequest(t *testing.T) {
	for name, c := range map[string]struct {
		after bool
		made  []string
	}{
		"before it gets through":           {false, []string{"one", "one", "three"}},
		"after, and before it is answered": {true, []string{"one", "one", "two", "three"}},
	} {
		t.Run(name, func(t *testing.T) {
			a, wire, client := play(t, func(tripwire.Request) {})
			var at []tripwire.Request
			trip := &tripwire.Trip{
				At: 2, After: c.after,
				Match: func(r tripwire.Request) bool { return r.Method == http.MethodPost && r.Resource == "secrets" },
				Do:    func(r tripwire.Request) { at = append(at, r) },
			}
			if wire.Set(trip) {
				t.Error("it tripped at nothing")
			}
			create := func(name string) error {
				_, err := client.CoreV1().Secrets("ns").Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
				return err
			}
			must(t, create("one"))
			if wire.Set(trip) {
				t.Error("it tripped before its time")
			}
			must(t, create("one"))
			if _, err := client.CoreV1().Secrets("ns").Get(t.Context(), "one", metav1.GetOptions{}); err != nil {
				t.Fatal(err)
			}
			if create("two") == nil {
				t.Error("the request it trips at was answered")
			}
			if !wire.Set(nil) || wire.Set(nil) {
				t.Error("it does not say that it tripped, and once")
			}
			must(t, create("three"))
			if got := a.names(); !slices.Equal(got, c.made) {
				t.Errorf("what got through is %v, want %v", got, c.made)
			}
			want := []tripwire.Request{{Method: http.MethodPost, Namespace: "ns", Resource: "secrets"}}
			if !slices.Equal(at, want) {
				t.Errorf("it tripped at %v", at)
			}
		})
	}
}

// isOf says which requests are for a Secret of that name.
func isOf(name string) func(tripwire.Request) bool {
	return func(r tripwire.Request) bool { return r.Resource == "secrets" && r.Name == name }
}

func TestItSaysThatTheServerIsBusy(t *testing.T) {
	_, wire, client := play(t, func(tripwire.Request) {})
	end := wire.Jam(tripwire.Jam{Match: isOf("one"), Pause: 30 * time.Second})
	get := func(name string) error {
		var answer corev1.Secret
		return client.CoreV1().RESTClient().Get().Namespace("ns").Resource("secrets").Name(name).MaxRetries(0).Do(t.Context()).Into(&answer)
	}
	err := get("one")
	if seconds, ok := apierrors.SuggestsClientDelay(err); !apierrors.IsTooManyRequests(err) || !ok || seconds != 30 {
		t.Errorf("got %v, after %d s", err, seconds)
	}
	must(t, get("two"))
	end()
	must(t, get("one"))
}

func TestItDoesNotAnswerUntilTheJamIsOver(t *testing.T) {
	came := make(chan tripwire.Request, 10)
	_, wire, client := play(t, func(r tripwire.Request) { came <- r })
	end := wire.Jam(tripwire.Jam{Match: isOf("one")})
	get := func(ctx context.Context) error {
		_, err := client.CoreV1().Secrets("ns").Get(ctx, "one", metav1.GetOptions{})
		return err
	}
	ctx, giveUp := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() { answered <- get(ctx) }()
	<-came
	giveUp()
	if err := <-answered; !errors.Is(err, context.Canceled) {
		t.Errorf("who gave up got %v", err)
	}
	go func() { answered <- get(t.Context()) }()
	<-came
	end()
	must(t, <-answered)
	must(t, get(t.Context()))
}

func TestItKnowsWhatARequestIsAbout(t *testing.T) {
	var seen []tripwire.Request
	_, _, client := play(t, func(r tripwire.Request) { seen = append(seen, r) })
	ctx := t.Context()
	core := client.CoreV1()
	_, _ = core.Namespaces().Get(ctx, "ns", metav1.GetOptions{})
	_, _ = core.ConfigMaps("ns").Patch(ctx, "c", "application/json-patch+json", []byte("[]"), metav1.PatchOptions{DryRun: []string{"All"}})
	_, _ = client.AppsV1().Deployments("ns").GetScale(ctx, "d", metav1.GetOptions{})
	_, _ = client.Discovery().ServerVersion()
	want := []tripwire.Request{
		{Method: "GET", Resource: "namespaces", Name: "ns"},
		{Method: "PATCH", Namespace: "ns", Resource: "configmaps", Name: "c", DryRun: true},
		{Method: "GET", Namespace: "ns", Resource: "deployments", Name: "d", Subresource: "scale"},
		{Method: "GET", Resource: "/version"},
	}
	if !slices.Equal(seen, want) {
		t.Errorf("it saw %v\nwant   %v", seen, want)
	}
}
