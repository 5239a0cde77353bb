// Package tripwire stands between a client and its API server, and trips at a
// request: the n-th of those that match. What it does then, as killing the client,
// is done before the request gets through, or after it did and before the answer
// comes back. So a kill can be put before and after every single request, without
// a clock.
package tripwire

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Request is what the wire knows of a request.
type Request struct {
	Method      string
	Namespace   string // "": cluster-wide
	Resource    string // in the plural
	Name        string // "": of a list or a create
	Subresource string
	DryRun      bool
	Watch       bool
}

// String is what a test counts kills by: "PATCH configmaps".
func (r Request) String() string {
	s := r.Method + " " + r.Resource
	if r.Subresource != "" {
		s += "/" + r.Subresource
	}
	if r.DryRun {
		s += " (dry run)"
	}
	return s
}

// Trip is what the wire waits for, and what it does then. The request it trips at
// is never answered.
type Trip struct {
	Match func(Request) bool
	At    int           // the first is 1
	After bool          // the request gets through, and its answer is lost
	Do    func(Request) // called once
}

// Jam is what becomes of requests that are not let through.
type Jam struct {
	Match func(Request) bool
	// Pause is how long the API server asks to be left alone, with status 429; 0: it
	// gives no answer at all, until the jam is over or the client gives up.
	Pause time.Duration

	over chan struct{}
}

// Wire is a proxy for one API server.
type Wire struct {
	server *httptest.Server
	proxy  *httputil.ReverseProxy
	see    func(Request)

	mu   sync.Mutex
	trip *Trip
	left int
	set  bool // a trip was, whether it is waited for still or not
	jams []*Jam
}

// New starts a Wire to the API server that a kubeconfig leads to. see is told each
// request as it comes; it must not block.
func New(kubeconfig string, see func(Request)) (*Wire, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	target, err := url.Parse(cfg.Host)
	if err != nil {
		return nil, err
	}
	// Only whom to trust: who asks is for the client to say.
	tls, err := rest.TLSConfigFor(&rest.Config{TLSClientConfig: rest.TLSClientConfig{CAData: cfg.CAData, CAFile: cfg.CAFile}})
	if err != nil {
		return nil, err
	}
	w := &Wire{see: see}
	w.proxy = &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:      &http.Transport{TLSClientConfig: tls, ForceAttemptHTTP2: true},
		FlushInterval:  -1, // watches
		ModifyResponse: w.answered,
		ErrorHandler:   unanswered,
		ErrorLog:       log.New(io.Discard, "", 0),
	}
	w.server = httptest.NewUnstartedServer(w)
	w.server.EnableHTTP2 = true
	w.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	w.server.StartTLS()
	return w, nil
}

// Close ends the proxy, and cuts whoever speaks through it.
func (w *Wire) Close() {
	w.server.CloseClientConnections()
	w.server.Close()
}

// Lead has a kubeconfig lead through the wire.
func (w *Wire) Lead(path string) error {
	cfg, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return err
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.server.Certificate().Raw})
	for _, c := range cfg.Clusters {
		c.Server, c.CertificateAuthorityData, c.CertificateAuthority = w.server.URL, ca, ""
	}
	return clientcmd.WriteToFile(*cfg, path)
}

// Set has the wire wait for a trip, and forget the one before; nil: for none. It
// tells whether it had tripped at the one before: what that does is done, or will be.
func (w *Wire) Set(t *Trip) (tripped bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	tripped = w.set && w.trip == nil
	w.trip, w.left, w.set = t, 0, t != nil
	if t != nil {
		w.left = t.At
	}
	return tripped
}

// take gives the trip if this request is the one.
func (w *Wire) take(r Request) *Trip {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.trip
	if t == nil || !t.Match(r) {
		return nil
	}
	if w.left--; w.left > 0 {
		return nil
	}
	w.trip = nil
	return t
}

// Jam holds requests up until the returned function is called. What waits then goes on.
func (w *Wire) Jam(j Jam) (end func()) {
	j.over = make(chan struct{})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.jams = append(w.jams, &j)
	return sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.jams = slices.DeleteFunc(w.jams, func(one *Jam) bool { return one == &j })
		close(j.over)
	})
}

// jammed holds a request up, or answers it. It tells whether it is to go on.
func (w *Wire) jammed(out http.ResponseWriter, in *http.Request, r Request) bool {
	w.mu.Lock()
	i := slices.IndexFunc(w.jams, func(j *Jam) bool { return j.Match(r) })
	var j *Jam
	if i >= 0 {
		j = w.jams[i]
	}
	w.mu.Unlock()
	switch {
	case j == nil:
		return true
	case j.Pause > 0: // as an API server's filter of requests does
		out.Header().Set("Retry-After", strconv.Itoa(int(j.Pause.Seconds())))
		http.Error(out, "Too many requests, please try again later.", http.StatusTooManyRequests)
		return false
	}
	select {
	case <-j.over:
		return true
	case <-in.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

// ServeHTTP implements http.Handler.
func (w *Wire) ServeHTTP(out http.ResponseWriter, in *http.Request) {
	r := read(in)
	w.see(r)
	if !w.jammed(out, in, r) {
		return
	}
	t := w.take(r)
	switch {
	case t == nil:
	case t.After:
		in = in.WithContext(context.WithValue(in.Context(), tripped{}, sync.OnceFunc(func() { t.Do(r) })))
	default:
		t.Do(r)
		panic(http.ErrAbortHandler)
	}
	w.proxy.ServeHTTP(out, in)
}

type tripped struct{}

var errTripped = errors.New("tripped")

// answered loses the answer to a request that was tripped at.
func (w *Wire) answered(r *http.Response) error {
	do, ok := r.Request.Context().Value(tripped{}).(func())
	if !ok {
		return nil
	}
	do()
	return errTripped
}

// unanswered cuts whoever asked what got no answer, or is not to have it.
func unanswered(_ http.ResponseWriter, r *http.Request, _ error) {
	if do, ok := r.Context().Value(tripped{}).(func()); ok {
		do()
	}
	panic(http.ErrAbortHandler)
}

// read takes a path of the Kubernetes API apart.
func read(in *http.Request) Request {
	query := in.URL.Query()
	r := Request{Method: in.Method, DryRun: query.Has("dryRun"), Watch: query.Get("watch") == "true"}
	steps := strings.Split(strings.Trim(in.URL.Path, "/"), "/")
	switch {
	case steps[0] == "api" && len(steps) > 2:
		steps = steps[2:]
	case steps[0] == "apis" && len(steps) > 3:
		steps = steps[3:]
	default: // discovery, and what else is no resource
		r.Resource = in.URL.Path
		return r
	}
	if steps[0] == "namespaces" && len(steps) > 2 && steps[2] != "finalize" && steps[2] != "status" {
		r.Namespace, steps = steps[1], steps[2:]
	}
	for i, field := range []*string{&r.Resource, &r.Name, &r.Subresource} {
		if i < len(steps) {
			*field = steps[i]
		}
	}
	return r
}
