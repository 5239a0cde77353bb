package agent

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestAProbeSaysWhatIsWrong(t *testing.T) {
	var p probes
	mux := http.NewServeMux()
	p.handle(mux)
	ask := func(path string) (int, string) {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	var away error
	p.readyz("lease", func() error { return nil })
	p.readyz("state", func() error { return away })
	p.livez("engine", func() error { return nil })

	for _, tt := range []struct {
		path string
		away error
		code int
		body string
	}{
		{"/healthz", nil, 200, "ok"},
		{"/readyz", nil, 200, "ok"},
		{"/readyz?verbose", nil, 200, "[+]lease ok\n[+]state ok\nreadyz check passed\n"},
		{"/readyz", errors.New("secret capstan-self: forbidden"), 503, "[+]lease ok\n[-]state failed: secret capstan-self: forbidden\nreadyz check failed\n"},
		{"/healthz?verbose", errors.New("secret capstan-self: forbidden"), 200, "[+]engine ok\nhealthz check passed\n"},
	} {
		away = tt.away
		if code, body := ask(tt.path); code != tt.code || body != tt.body {
			t.Errorf("%s with %v: %d %q, want %d %q", tt.path, tt.away, code, body, tt.code, tt.body)
		}
	}
}
