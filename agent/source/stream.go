package source

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"golang.org/x/crypto/ssh"
)

// stream is git-upload-pack at the other end of a connection, which ends after
// one pack. It ends with the context it was opened with.
type stream struct {
	client  *ssh.Client
	session *ssh.Session
	in      io.WriteCloser
	out     *bufio.Reader
	said    *firstWords
	stop    func() bool // watching the context
	refs    *packp.AdvRefs
}

var _ transport.UploadPackSession = (*stream)(nil)

func startStream(client *ssh.Client, command string, maxBytes int64) (*stream, error) {
	session, err := client.NewSession()
	if err != nil {
		return nil, err
	}
	s := &stream{client: client, session: session, said: &firstWords{}, stop: func() bool { return false }}
	session.Stderr = s.said
	if s.in, err = session.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.out = bufio.NewReader(&boundedBody{ReadCloser: io.NopCloser(out), left: maxBytes})
	// A server that does not take it speaks the version it knows.
	_ = session.Setenv("GIT_PROTOCOL", "version=2")
	return s, session.Start(command)
}

// greeted reads the server's first words if they are of version 2, and otherwise
// leaves them to whoever speaks an older one.
func (s *stream) greeted() (abilities, error) {
	const first = "000e" + versionTwo
	if head, err := s.out.Peek(4); err != nil || string(head) != first[:4] {
		return abilities{}, errOldProtocol // an error is met again
	}
	if head, err := s.out.Peek(len(first)); err != nil || string(head) != first {
		return abilities{}, errOldProtocol
	}
	return readAbilities(s.out)
}

// streamTalk has all commands in one session.
type streamTalk struct {
	*stream
	can abilities
}

var _ talk = (*streamTalk)(nil)

func (t *streamTalk) able() abilities { return t.can }

func (t *streamTalk) ask(_ context.Context, command []byte) (io.ReadCloser, error) {
	if _, err := t.in.Write(command); err != nil {
		return nil, err
	}
	return io.NopCloser(t.out), nil
}

func (s *stream) AdvertisedReferences() (*packp.AdvRefs, error) {
	return s.AdvertisedReferencesContext(context.Background())
}

func (s *stream) AdvertisedReferencesContext(context.Context) (*packp.AdvRefs, error) {
	if s.refs != nil {
		return s.refs, nil
	}
	refs := packp.NewAdvRefs()
	err := refs.Decode(s.out)
	switch {
	case errors.Is(err, packp.ErrEmptyInput):
		return nil, s.ended()
	case errors.Is(err, packp.ErrEmptyAdvRefs), err == nil && refs.IsEmpty():
		return nil, transport.ErrEmptyRemoteRepository
	case err != nil:
		if said, ok := errors.AsType[*pktline.ErrorLine](err); ok && noRepository(said.Text) {
			return nil, transport.ErrRepositoryNotFound
		}
		return nil, err
	}
	transport.FilterUnsupportedCapabilities(refs.Capabilities)
	s.refs = refs
	return refs, nil
}

// ended says why a server said nothing.
func (s *stream) ended() error {
	exit := s.session.Wait() // then all was said
	text := s.said.String()
	switch {
	case noRepository(text):
		return transport.ErrRepositoryNotFound
	case text != "":
		return fmt.Errorf("the server says: %s", text)
	case exit != nil:
		return exit
	default:
		return io.ErrUnexpectedEOF
	}
}

// noRepository knows the words of git and of the large servers.
func noRepository(text string) bool {
	text = strings.ToLower(text)
	for _, words := range []string{
		"not appear to be a git repository", "repository not found", "repository does not exist", "no such repository",
		"could not be found", "access denied",
	} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}

func (s *stream) UploadPack(_ context.Context, request *packp.UploadPackRequest) (*packp.UploadPackResponse, error) {
	if err := request.Validate(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := request.UploadRequest.Encode(&b); err != nil {
		return nil, err
	}
	if err := request.UploadHaves.Encode(&b, false); err != nil {
		return nil, err
	}
	if err := pktline.NewEncoder(&b).EncodeString("done\n"); err != nil {
		return nil, err
	}
	if _, err := s.in.Write(b.Bytes()); err != nil {
		return nil, err
	}
	answer := packp.NewUploadPackResponse(request)
	if err := answer.Decode(io.NopCloser(s.out)); err != nil {
		return nil, err
	}
	return answer, nil
}

// Close ends the connection. Whatever the server still says of it is nothing we
// asked for.
func (s *stream) Close() error {
	s.stop()
	_ = s.session.Close()
	return s.client.Close()
}

// firstWords keeps the beginning of what is written.
type firstWords struct {
	mu   sync.Mutex
	text []byte
}

func (w *firstWords) Write(p []byte) (int, error) {
	const most = 4 << 10
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, p[:min(len(p), most-len(w.text))]...)
	return len(p), nil
}

func (w *firstWords) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(bytes.TrimSpace(w.text))
}
