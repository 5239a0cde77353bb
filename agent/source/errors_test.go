package source_test

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/agent/source"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

const secret = "hunter2-s3cret" // a test's

// wantError also shows that no credential is in what people see.
func wantError(t *testing.T, err error, text, hint string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", text)
	}
	if !strings.Contains(err.Error(), text) || !strings.Contains(fleet.Hint(err), hint) {
		t.Errorf("error: %v\nhint: %s\nwant %q and a hint with %q", err, fleet.Hint(err), text, hint)
	}
	for _, leak := range []string{secret, "Authorization", "Basic", "Bearer"} {
		if strings.Contains(err.Error()+fleet.Hint(err), leak) {
			t.Errorf("the error gives %q away: %v", leak, err)
		}
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	for name, c := range map[string]struct {
		cfg        source.Config
		text, hint string
	}{
		"nothing":        {source.Config{Ref: source.Ref{Branch: "main"}}, "no repository", "URL"},
		"ftp":            {source.Config{URL: "ftp://git.example.com/fleet.git", Ref: source.Ref{Branch: "main"}}, "https, http, ssh, file and bundle URLs only", "https://"},
		"path":           {source.Config{URL: "/srv/fleet.git", Ref: source.Ref{Branch: "main"}}, "https, http, ssh, file and bundle URLs only", "https://"},
		"ssh, no key":    {source.Config{URL: "ssh://git.example.com/fleet.git", Ref: source.Ref{Branch: "main"}}, "no private key", "give the file"},
		"ssh, no hosts":  {source.Config{URL: "git@git.example.com:fleet.git", Ref: source.Ref{Branch: "main"}, IdentityFile: "k"}, "host keys to trust", "ssh-keyscan"},
		"ssh, no path":   {source.Config{URL: "ssh://git.example.com/", Ref: source.Ref{Branch: "main"}, IdentityFile: "k"}, "names no repository", "ssh://"},
		"ssh password":   {source.Config{URL: "ssh://git:" + secret + "@git.example.com/f.git", Ref: source.Ref{Branch: "main"}}, "has credentials in it", "take them out"},
		"file, a host":   {source.Config{URL: "file://srv/fleet.git", Ref: source.Ref{Branch: "main"}}, "not the path of a directory", "three slashes"},
		"bundle, no dir": {source.Config{URL: "bundle:", Ref: source.Ref{Branch: "main"}}, "not the path of a directory", "three slashes"},
		"credentials":    {source.Config{URL: "https://u:" + secret + "@git.example.com/f.git", Ref: source.Ref{Branch: "main"}}, "has credentials in it", "take them out"},
		"token as user":  {source.Config{URL: "https://" + secret + "@git.example.com/f.git", Ref: source.Ref{Branch: "main"}}, "has credentials in it", "take them out"},
		"bad with both":  {source.Config{URL: "https://u:" + secret + "@git.example.com/%zz", Ref: source.Ref{Branch: "main"}}, "can't be read", "https://"},
		"query":          {source.Config{URL: "https://git.example.com/f.git?token=" + secret, Ref: source.Ref{Branch: "main"}}, "after its path", "end it"},
		"no host":        {source.Config{URL: "https:///f.git", Ref: source.Ref{Branch: "main"}}, "no host", "https://"},
		"no branch":      {source.Config{URL: "https://git.example.com/f.git"}, "no branch", "main"},
		"bad branch":     {source.Config{URL: "https://git.example.com/f.git", Ref: source.Ref{Branch: "a b"}}, `"a b"`, "spaces"},
		"user only":      {source.Config{URL: "https://git.example.com/f.git", Ref: source.Ref{Branch: "main"}, UsernameFile: "u"}, "none with the password", "both"},
		"token and pass": {source.Config{URL: "https://git.example.com/f.git", Ref: source.Ref{Branch: "main"}, PasswordFile: "p", BearerTokenFile: "t"}, "both a password and a bearer token", "one of them"},
		"no ref":         {source.Config{URL: "https://git.example.com/f.git"}, "no branch", "semver"},
		"two refs":       {source.Config{URL: "https://git.example.com/f.git", Ref: source.Ref{Branch: "main", Tag: "v1"}}, "more than one", "one of them"},
		"bad tag":        {source.Config{URL: "https://git.example.com/f.git", Ref: source.Ref{Tag: "a b"}}, `"a b"`, "refs/tags/"},
		"bad range":      {source.Config{URL: "https://git.example.com/f.git", Ref: source.Ref{Semver: ">>1"}}, `">>1"`, "1.x"},
		"short commit":   {source.Config{URL: "https://git.example.com/f.git", Ref: source.Ref{Commit: "abcdef1"}}, `"abcdef1"`, "40"},
		"cert alone":     {source.Config{URL: "https://git.example.com/f.git", Ref: source.Ref{Branch: "main"}, CertFile: "c"}, "only one file", "both"},
		"proxy's secret": {source.Config{URL: "https://git.example.com/f.git", Ref: source.Ref{Branch: "main"}, ProxyURL: "http://u:" + secret + "@proxy"}, "has credentials", "HTTPS_PROXY"},
		"a proxy's file": {source.Config{URL: "https://git.example.com/f.git", Ref: source.Ref{Branch: "main"}, ProxyURL: "file:///etc"}, "not one of", "http://"},
		"no such CA":     {source.Config{URL: "https://git.example.com/f.git", Ref: source.Ref{Branch: "main"}, CAFile: "/does/not/exist"}, "certificates", "mounted"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := source.New(c.cfg)
			wantError(t, err, c.text, c.hint)
		})
	}
}

func TestCredentialsAreReadAgainAtEachFetch(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	s.push()
	dir := t.TempDir()
	user, pass := filepath.Join(dir, "user"), filepath.Join(dir, "pass")
	writeFile(t, user, "reader\n")
	writeFile(t, pass, secret+"\n")
	s.allow("reader", secret, "")
	r := s.open(func(c *source.Config) { c.UsernameFile, c.PasswordFile = user, pass })
	fetch(t, r)
	s.allow("reader", "rotated", "")
	_, err := r.Fetch(t.Context())
	wantError(t, err, "refuses the credentials", "expired")
	if !errors.Is(err, fleet.ErrForbidden) {
		t.Errorf("not told apart: %v", err)
	}
	writeFile(t, pass, "rotated")
	fetch(t, r)
	writeFile(t, pass, "\n")
	_, err = r.Fetch(t.Context())
	wantError(t, err, "is empty", "Secret")
}

func TestBearerToken(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	s.push()
	file := filepath.Join(t.TempDir(), "token")
	writeFile(t, file, secret+"\n")
	s.allow("", "", secret)
	fetch(t, s.open(func(c *source.Config) { c.BearerTokenFile = file }))
	_, err := s.open().Fetch(t.Context())
	wantError(t, err, "asks for credentials", "give the files")
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	s := newGitServer(t)
	r := s.open()
	_, err := r.Fetch(t.Context())
	wantError(t, err, "the repository is empty", "branch main")
	s.write("f", "1")
	s.push()
	fetch(t, r) // it recovers

	_, err = s.open(func(c *source.Config) { c.Ref.Branch = "prod" }).Fetch(t.Context())
	wantError(t, err, `there is no branch "prod"`, "there is main")
	if !errors.Is(err, fleet.ErrNotFound) {
		t.Errorf("not told apart: %v", err)
	}
	_, err = s.open(func(c *source.Config) { c.URL = s.http.URL + "/other.git" }).Fetch(t.Context())
	wantError(t, err, "no such repository", "URL")
}

func TestServersThatFail(t *testing.T) {
	s := newGitServer(t)
	s.write("f", "1")
	s.push()
	file := filepath.Join(t.TempDir(), "token")
	writeFile(t, file, secret)
	r := s.open(func(c *source.Config) { c.BearerTokenFile = file })
	for status, want := range map[int][2]string{
		http.StatusForbidden:          {"does not let these credentials", "read access"},
		http.StatusServiceUnavailable: {"status 503", "log"},
		http.StatusUnauthorized:       {"refuses the credentials", "expired"},
	} {
		s.fail(status)
		_, err := r.Fetch(t.Context())
		wantError(t, err, want[0], want[1])
	}
	s.fail(0)
	fetch(t, r) // it recovers
}

func TestServersThatCannotBeReached(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	r, err := source.New(source.Config{URL: "http://" + address + "/fleet.git", Ref: source.Ref{Branch: "main"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Fetch(t.Context())
	wantError(t, err, "can't be reached", "network policy")
	if !errors.Is(err, fleet.ErrUnavailable) {
		t.Errorf("not told apart: %v", err)
	}
}

func TestServersThatHang(t *testing.T) {
	hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer hang.Close()
	r, err := source.New(source.Config{URL: hang.URL + "/fleet.git", Ref: source.Ref{Branch: "main"}, Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Fetch(t.Context())
	wantError(t, err, "no complete answer within 50ms", "fast enough")
}

func TestServersThatAreNoGit(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>hello</html>")) }))
	defer page.Close()
	r, err := source.New(source.Config{URL: page.URL + "/fleet.git", Ref: source.Ref{Branch: "main"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Fetch(t.Context())
	wantError(t, err, "the fetch failed", "smart HTTP")
}

func TestWhatAServerSaysIsShownWithoutCredentials(t *testing.T) {
	for name, answer := range map[string]string{
		"a page":  "<html>\n\x1b[31m%s</html>",
		"an ERR":  "%sERR your token is %s",
		"a long":  strings.Repeat("x", 295) + "%s",
		"a comma": "%s, and so on",
	} {
		t.Run(name, func(t *testing.T) {
			echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, pass, _ := r.BasicAuth()
				said := strings.ReplaceAll(answer, "%s", pass+r.Header.Get("Authorization"))
				fmt.Fprintf(w, "001e# service=git-upload-pack\n0000%04x%s", len(said)+4, said)
			}))
			defer echo.Close()
			file := filepath.Join(t.TempDir(), "pass")
			writeFile(t, file, secret)
			r, err := source.New(source.Config{URL: echo.URL + "/fleet.git", Ref: source.Ref{Branch: "main"}, PasswordFile: file})
			if err != nil {
				t.Fatal(err)
			}
			_, err = r.Fetch(t.Context())
			if err == nil {
				t.Fatal("no error")
			}
			text := strings.ReplaceAll(err.Error(), "Basic ***", "") // the word alone gives nothing away
			wantError(t, fleet.WithHint(errors.New(text), fleet.Hint(err)), "the fetch failed", "smart HTTP")
			basic := base64.StdEncoding.EncodeToString([]byte("git:" + secret))
			if strings.ContainsAny(text, "\n\x1b") || strings.Contains(text, basic[:12]) || strings.Contains(text, secret[:7]) || len(text) > 450 {
				t.Errorf("shown as %q", text)
			}
		})
	}
}

func TestAServerWithoutEndIsCutOff(t *testing.T) {
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "001e# service=git-upload-pack\n0000")
		for i := range 1 << 20 {
			name := fmt.Sprintf("%040x refs/heads/b%d", i+1, i)
			if i == 0 {
				name += "\x00shallow"
			}
			if _, err := fmt.Fprintf(w, "%04x%s", len(name)+4, name); err != nil {
				return
			}
		}
	}))
	defer endless.Close()
	r, err := source.New(source.Config{URL: endless.URL + "/fleet.git", Ref: source.Ref{Branch: "main"}, Limits: source.Limits{PackBytes: 1000}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Fetch(t.Context())
	wantError(t, err, "over the limit", "branches")
}

func TestPrivateAuthorities(t *testing.T) {
	s := newGitServerOn(t, httptest.NewTLSServer)
	s.http.Config.ErrorLog = nil
	s.write("f", "1")
	s.push()
	_, err := s.open().Fetch(t.Context())
	wantError(t, err, "certificate is not trusted", "authority")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})))
	r := s.open(func(c *source.Config) { c.CAFile = ca })
	fetch(t, r)
	writeFile(t, ca, "not a certificate")
	_, err = r.Fetch(t.Context())
	wantError(t, err, "holds no certificate", "PEM")
}

func TestCredentialsDoNotFollowARedirectToAnotherServer(t *testing.T) {
	var leaked string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked = r.Header.Get("Authorization")
		http.NotFound(w, r)
	}))
	defer other.Close()
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.String(), http.StatusFound)
	}))
	defer first.Close()
	file := filepath.Join(t.TempDir(), "token")
	writeFile(t, file, secret)
	r, err := source.New(source.Config{URL: first.URL + "/fleet.git", Ref: source.Ref{Branch: "main"}, BearerTokenFile: file})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Fetch(t.Context()); err == nil {
		t.Error("no error")
	}
	if leaked != "" {
		t.Error("the token went to another server")
	}
}
