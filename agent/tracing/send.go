package tracing

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// sender posts spans to a collector. OpenTelemetry's own client of OTLP over HTTP
// links gRPC's server along with it: 17 MB of program, and 11 MB resident in every
// agent, traced or not. The spans, and how they are encoded, are OpenTelemetry's.
type sender struct {
	url     string
	headers map[string]string
	client  *http.Client
}

var _ otlptrace.Client = (*sender)(nil)

const (
	sendWithin = 10 * time.Second // OpenTelemetry's default
	sendTries  = 3
	firstPause = time.Second
	lastPause  = 10 * time.Second
)

// newSender reads what OpenTelemetry's variables say, those for traces alone first.
func newSender(endpoint string, lookup func(string) (string, bool)) (*sender, error) {
	s := &sender{headers: map[string]string{}}
	variable := func(name string) (value, from string) {
		for _, from := range []string{"OTEL_EXPORTER_OTLP_TRACES_" + name, "OTEL_EXPORTER_OTLP_" + name} {
			if v, ok := lookup(from); ok && v != "" {
				return v, from
			}
		}
		return "", ""
	}
	var err error
	if s.url, err = target(endpoint, variable); err != nil {
		return nil, err
	}
	all, from := variable("HEADERS")
	for pair := range strings.SplitSeq(all, ",") {
		name, value, ok := strings.Cut(pair, "=")
		if strings.TrimSpace(pair) == "" {
			continue
		}
		if value, err = url.PathUnescape(strings.TrimSpace(value)); err != nil || !ok {
			return nil, fleet.Invalid("%s: wants name=value,name=value, percent-encoded", from)
		}
		s.headers[strings.TrimSpace(name)] = value
	}
	within := sendWithin
	if ms, from := variable("TIMEOUT"); ms != "" {
		n, err := strconv.Atoi(ms)
		if err != nil || n <= 0 {
			return nil, fleet.Invalid("%s: %q is no number of milliseconds", from, ms)
		}
		within = time.Duration(n) * time.Millisecond
	}
	base, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("http.DefaultTransport is none of net/http")
	}
	transport := base.Clone()
	if file, from := variable("CERTIFICATE"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", from, err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fleet.Invalid("%s: %s holds no certificate", from, file)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	s.client = &http.Client{Timeout: within, Transport: transport}
	return s, nil
}

// target is where spans are posted. The variable for traces alone names it whole;
// the path is added to the others.
func target(endpoint string, variable func(string) (string, string)) (string, error) {
	name, whole := "tracing.endpoint", false
	if endpoint == "" {
		endpoint, name = variable("ENDPOINT")
		whole = strings.Contains(name, "TRACES")
	}
	u, err := parseEndpoint(name, endpoint)
	if err != nil {
		return "", err
	}
	if !whole {
		u = u.JoinPath("v1", "traces")
	}
	return u.String(), nil
}

func parseEndpoint(name, endpoint string) (*url.URL, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, fleet.WithHint(fleet.Invalid("%s: it is not where OTLP is taken over HTTP", name),
			`write it like "http://collector.monitoring:4318"; credentials go into OTEL_EXPORTER_OTLP_HEADERS`)
	}
	return u, nil
}

// Start does nothing: a connection is made when there is something to send.
func (s *sender) Start(context.Context) error { return nil }

// Stop closes the connections.
func (s *sender) Stop(context.Context) error {
	s.client.CloseIdleConnections()
	return nil
}

// UploadTraces posts spans, a few times where the collector is busy or away.
func (s *sender) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans}) // as an ExportTraceServiceRequest is
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		pause, err := s.post(ctx, body)
		if err == nil || pause == 0 || try == sendTries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(min(pause<<(try-1), lastPause)):
		}
	}
}

// post tries once. pause is 0 where another try is of no use.
func (s *sender) post(ctx context.Context, body []byte) (pause time.Duration, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	for name, value := range s.headers {
		r.Header.Set(name, value)
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	resp, err := s.client.Do(r)
	if err != nil {
		return firstPause, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection serves again
	switch resp.StatusCode {
	case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
		return 0, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // 0 where it says none
		pause = cmp.Or(time.Duration(seconds)*time.Second, firstPause)
	}
	return pause, fmt.Errorf("the collector answered %s", resp.Status)
}
