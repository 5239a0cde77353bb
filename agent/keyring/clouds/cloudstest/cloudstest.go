// Package cloudstest imitates key services for tests: they encrypt and decrypt,
// and can be told to be out of order. Files are encrypted for them by SOPS' own
// library.
package cloudstest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Mood is how a service answers.
type Mood int32

// How a service may answer.
const (
	Well    Mood = iota
	Denied       // it does not let the caller in, and repeats what it is known by
	Stalled      // never
	Broken       // with an error of its own
	Garbage      // with what is not of the protocol
	Long         // with a data key that is none
	Endless      // with more than anybody can keep
)

// Service is a key service of one kind.
type Service struct {
	*httptest.Server
	mood    atomic.Int32
	stalled chan struct{} // closed when somebody waits for what will not come
	once    sync.Once

	mu    sync.Mutex
	asked []string
}

// Set says how it answers from now on.
func (s *Service) Set(m Mood) { s.mood.Store(int32(m)) }

// Asked tells what was asked for so far: decrypt KEY, assume ROLE.
func (s *Service) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// Stalls is closed when somebody has asked that gets no answer.
func (s *Service) Stalls() <-chan struct{} { return s.stalled }

func (s *Service) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, what)
}

// sealed is what the imitations give for a data key.
type sealed struct {
	Key     string
	Context map[string]string
	Plain   []byte
}

func seal(s sealed) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	for i := range b {
		b[i] ^= 0x5a
	}
	return b
}

func unseal(b []byte, key string, context map[string]string) ([]byte, bool) {
	b = slices.Clone(b)
	for i := range b {
		b[i] ^= 0x5a
	}
	var s sealed
	if json.Unmarshal(b, &s) != nil || s.Key != key || !maps.Equal(s.Context, context) {
		return nil, false
	}
	return s.Plain, true
}

func start(t testing.TB, answer func(s *Service, w http.ResponseWriter, r *http.Request), refuse func(w http.ResponseWriter, code int, message string)) *Service {
	t.Helper()
	s := &Service{stalled: make(chan struct{})}
	over := make(chan struct{})
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch Mood(s.mood.Load()) {
		case Denied:
			s.note("denied")
			refuse(w, http.StatusForbidden, "you are "+r.Header.Get("X-Vault-Token")+r.Header.Get("X-Amz-Security-Token")+strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		case Stalled:
			s.once.Do(func() { close(s.stalled) })
			select {
			case <-over:
			case <-r.Context().Done():
			}
		case Broken:
			refuse(w, http.StatusInternalServerError, "out of order")
		case Garbage:
			_, _ = io.WriteString(w, "<html>\x1b[31m welcome to the wifi")
		case Endless:
			part := []byte(strings.Repeat("A", 1<<20))
			_, _ = io.WriteString(w, `{"Plaintext":"`)
			for {
				if _, err := w.Write(part); err != nil {
					return
				}
			}
		default:
			answer(s, w, r)
		}
	}))
	t.Cleanup(func() { close(over); s.Close() })
	return s
}

// plainOf is what is answered for a data key.
func (s *Service) plainOf(plain []byte) []byte {
	if Mood(s.mood.Load()) == Long {
		return []byte(strings.Repeat("x", 1000))
	}
	return plain
}

// What tests are known by at the imitations. No message may hold one of them.
const (
	AWSSession = "session-token-of-the-agent"
	VaultToken = "hvs.token-of-the-agent"
	GCPToken   = "ya29.token-of-the-agent"
)

// Secrets are all of these.
var Secrets = []string{AWSSession, VaultToken, GCPToken, azureToken}

// AWS starts an AWS KMS and an AWS STS, and sets the environment for clients.
func AWS(t testing.TB) *Service {
	t.Helper()
	s := start(t, answerAWS, func(w http.ResponseWriter, code int, message string) {
		refuseAWS(w, code, "AccessDeniedException", message)
	})
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": s.URL, "AWS_ACCESS_KEY_ID": "AKIAAGENT", "AWS_SECRET_ACCESS_KEY": "secret-of-the-agent", "AWS_SESSION_TOKEN": AWSSession,
		"AWS_MAX_ATTEMPTS": "1", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	return s
}

func refuseAWS(w http.ResponseWriter, code int, kind, message string) {
	w.Header().Set("X-Amzn-Errortype", kind)
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": kind, "message": message})
}

func answerAWS(s *Service, w http.ResponseWriter, r *http.Request) {
	var q struct {
		KeyID             string `json:"KeyId"`
		Plaintext         []byte
		CiphertextBlob    []byte
		EncryptionContext map[string]string
	}
	switch _, action, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); action {
	case "Encrypt":
		_ = json.NewDecoder(r.Body).Decode(&q)
		_ = json.NewEncoder(w).Encode(map[string]any{"KeyId": q.KeyID, "CiphertextBlob": seal(sealed{q.KeyID, q.EncryptionContext, q.Plaintext})})
	case "Decrypt":
		_ = json.NewDecoder(r.Body).Decode(&q)
		who := ""
		if strings.Contains(r.Header.Get("Authorization"), "Credential=ASIAROLE/") {
			who = " as the role"
		}
		s.note("decrypt " + q.KeyID + who)
		plain, ok := unseal(q.CiphertextBlob, q.KeyID, q.EncryptionContext)
		if !ok {
			refuseAWS(w, http.StatusBadRequest, "InvalidCiphertextException", "")
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"KeyId": q.KeyID, "Plaintext": s.plainOf(plain)})
	default: // STS
		_ = r.ParseForm()
		s.note("assume " + r.Form.Get("RoleArn"))
		_, _ = io.WriteString(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials><AccessKeyId>ASIAROLE</AccessKeyId>`+
			`<SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`)
	}
}

// Vault starts a HashiCorp Vault, and sets the environment for clients.
func Vault(t testing.TB) *Service {
	t.Helper()
	s := start(t, answerVault, refuseVault)
	t.Setenv("VAULT_TOKEN", VaultToken)
	t.Setenv("VAULT_MAX_RETRIES", "0")
	return s
}

func refuseVault(w http.ResponseWriter, code int, message string) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []string{message}})
}

func answerVault(s *Service, w http.ResponseWriter, r *http.Request) {
	var q struct{ Plaintext, Ciphertext string }
	_ = json.NewDecoder(r.Body).Decode(&q)
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	if r.Header.Get("X-Vault-Token") != VaultToken {
		refuseVault(w, http.StatusForbidden, "permission denied")
		return
	}
	give := func(name, value string) {
		_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]string{name: value}})
	}
	if engine, key, ok := strings.Cut(path, "/encrypt/"); ok {
		plain, _ := base64.StdEncoding.DecodeString(q.Plaintext)
		give("ciphertext", "vault:v1:"+base64.StdEncoding.EncodeToString(seal(sealed{engine + "/" + key, nil, plain})))
		return
	}
	engine, key, _ := strings.Cut(path, "/decrypt/")
	s.note("decrypt " + engine + "/" + key)
	text, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(q.Ciphertext, "vault:v1:"))
	plain, ok := unseal(text, engine+"/"+key, nil)
	if !ok {
		refuseVault(w, http.StatusBadRequest, "invalid ciphertext: unable to decrypt")
		return
	}
	give("plaintext", base64.StdEncoding.EncodeToString(s.plainOf(plain)))
}

// GCP starts a Google Cloud KMS, as REST, and sets the environment for clients.
func GCP(t testing.TB) *Service {
	t.Helper()
	s := start(t, answerGCP, refuseGCP)
	for name, value := range map[string]string{"SOPS_GCP_KMS_ENDPOINT": s.URL, "SOPS_GCP_KMS_CLIENT_TYPE": "rest", "GOOGLE_OAUTH_ACCESS_TOKEN": GCPToken, "GOOGLE_CREDENTIALS": ""} {
		t.Setenv(name, value)
	}
	return s
}

func refuseGCP(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	state := map[int]string{http.StatusForbidden: "PERMISSION_DENIED", http.StatusBadRequest: "INVALID_ARGUMENT", http.StatusInternalServerError: "INTERNAL"}[code]
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"code": code, "message": message, "status": state}})
}

func answerGCP(s *Service, w http.ResponseWriter, r *http.Request) {
	var q struct{ Plaintext, Ciphertext []byte }
	_ = json.NewDecoder(r.Body).Decode(&q)
	key, action, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/"), ":")
	w.Header().Set("Content-Type", "application/json")
	if action == "encrypt" {
		_ = json.NewEncoder(w).Encode(map[string]any{"name": key, "ciphertext": seal(sealed{key, nil, q.Plaintext})})
		return
	}
	s.note("decrypt " + key)
	plain, ok := unseal(q.Ciphertext, key, nil)
	if !ok {
		refuseGCP(w, http.StatusBadRequest, "Decryption failed: the ciphertext is invalid.")
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"plaintext": s.plainOf(plain)})
}

// Told gives an error if another one holds something that is not to be told.
func Told(err error) error {
	if err == nil {
		return nil
	}
	for _, s := range append(slices.Clone(Secrets), "\x1b", "\n") {
		if strings.Contains(err.Error(), s) {
			return fmt.Errorf("it tells %q: %w", s, err)
		}
	}
	if len(err.Error()) > 1000 {
		return errors.New("it is too long")
	}
	return nil
}
