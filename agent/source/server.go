package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// server is a place that speaks Git's protocol.
type server struct {
	cfg  *Config
	url  string
	line line
	how  atomic.Pointer[string] // it was read last
}

// line leads to a server. It is safe for concurrent use.
type line interface {
	// open begins a session, with the credentials that are to be kept out of
	// what people see, also beside an error.
	open(ctx context.Context) (session, credentials, error)
	// forget has what is remembered of the server found out again. It tells
	// whether there was any such thing.
	forget() bool
}

// session is one with a server, in the version of Git's protocol that it speaks:
// one of the two is there.
type session struct {
	talk talk                        // version 2
	old  transport.UploadPackSession // 0 or 1
}

var (
	_ place = (*server)(nil)
	_ giver = (*server)(nil)
	_ visit = (*serverVisit)(nil)
)

// allowThinPacks lets go-git tell us that a server sends thin packs: packs whose
// deltas build on objects the client has. go-git hides that because its own
// clone can't resolve them in every storage. Our storage can, and without it
// each fetch would bring the whole repository again. The list is the process's,
// and nothing else here uses go-git.
var allowThinPacks = sync.OnceFunc(func() {
	transport.UnsupportedCapabilities = slices.DeleteFunc(slices.Clone(transport.UnsupportedCapabilities),
		func(c capability.Capability) bool { return c == capability.ThinPack })
})

func newServer(cfg *Config, url string, l line) *server {
	allowThinPacks()
	return &server{cfg: cfg, url: url, line: l}
}

// visit asks once more where a server is no longer what it was.
func (s *server) visit(ctx context.Context) (visit, error) {
	v, with, err := s.look(ctx)
	if err != nil && ctx.Err() == nil && !plainlySaid(err) && s.line.forget() {
		v, with, err = s.look(ctx)
	}
	if err != nil {
		return nil, s.explain(ctx, with, err)
	}
	return v, nil
}

// plainlySaid tells answers that would be the same in any version: a server is
// not to be asked twice with a password it refuses.
func plainlySaid(err error) bool {
	for _, each := range []error{transport.ErrEmptyRemoteRepository, transport.ErrAuthenticationRequired, transport.ErrAuthorizationFailed} {
		if errors.Is(err, each) {
			return true
		}
	}
	return false
}

func (s *server) look(ctx context.Context) (visit, credentials, error) {
	session, with, err := s.line.open(ctx)
	if err != nil {
		return nil, with, err
	}
	if session.talk != nil {
		v := &talkVisit{server: s, talk: session.talk, with: with}
		if err := v.listRefs(ctx); err != nil {
			_ = v.Close() // of the two errors, the first says more
			return nil, with, err
		}
		if session.talk.able().filter {
			s.tell(readFilter)
		} else {
			s.tell(readWhole)
		}
		return v, with, nil
	}
	refs, err := s.advertised(ctx, session.old)
	if err != nil {
		return nil, with, err
	}
	s.tell(readOld)
	return &serverVisit{server: s, session: session.old, refs: refs, with: with}, with, nil
}

// tell says how a server is read, once for as long as it stays so.
func (s *server) tell(how string) {
	if was := s.how.Swap(&how); was == nil || *was != how {
		s.cfg.Log.Info("how the Git server is read", "url", s.url, "protocol", how)
	}
}

// The ways to read a server, for people who wonder what a fetch costs.
const (
	readOld    = "version 1: every poll lists all branches and tags, and all files are held"
	readWhole  = "version 2 without filters: all files are held"
	readFilter = "version 2 with filters: of a large repository files are brought when they are read"
)

func (s *server) advertised(ctx context.Context, session transport.UploadPackSession) (*packp.AdvRefs, error) {
	refs, err := session.AdvertisedReferencesContext(ctx)
	if err != nil {
		_ = session.Close() // likewise
	}
	return refs, err
}

// give brings files by their names, which servers that speak version 2 do.
func (s *server) give(ctx context.Context, wants []unit.Hash) (objects, error) {
	session, with, err := s.line.open(ctx)
	if err != nil {
		return nil, s.explain(ctx, with, err)
	}
	if session.talk == nil {
		_ = session.old.Close() // nothing was asked
		return nil, errNoFiles
	}
	v := &talkVisit{server: s, talk: session.talk, with: with}
	defer func() { _ = v.Close() }() // what was asked for is here, or an error
	got, err := v.files(ctx, wants)
	if err != nil {
		s.line.forget()
		return nil, s.explain(ctx, with, err)
	}
	return got, nil
}

// serverVisit is one session, until a pack was asked for: a server ends it then.
type serverVisit struct {
	server  *server
	session transport.UploadPackSession
	refs    *packp.AdvRefs
	with    credentials
	used    bool
}

func (v *serverVisit) references() references {
	refs := make(references, len(v.refs.References))
	for name, h := range v.refs.References {
		refs[name] = unit.Hash(h)
	}
	return refs
}

func (v *serverVisit) gives() bool { return false }

func (v *serverVisit) Close() error { return v.session.Close() }

// bring downloads what the tip needs and we lack. A server that was wrong about
// what we have, because history was rewritten under it, is asked for everything.
func (v *serverVisit) bring(ctx context.Context, tip unit.Hash, have state) (brought, error) {
	have = have.whole()
	got, err := v.download(ctx, tip, have)
	if err != nil && !have.empty() && ctx.Err() == nil && !errors.Is(err, errLimit) {
		got, err = v.download(ctx, tip, state{})
	}
	if err != nil {
		return brought{}, v.server.explain(ctx, v.with, err)
	}
	return got, nil
}

func (v *serverVisit) download(ctx context.Context, tip unit.Hash, have state) (brought, error) {
	request, err := request(v.refs, tip, have)
	if err != nil {
		return brought{}, err
	}
	pack, err := v.send(ctx, request)
	if err != nil {
		return brought{}, err
	}
	if err := guardPack(pack, v.server.cfg.Limits); err != nil {
		return brought{}, damaged(err)
	}
	all, err := unpack(pack, have.objects)
	if err != nil {
		return brought{}, damaged(err)
	}
	got, err := all.of(tip, v.server.cfg.Limits, true)
	if err != nil {
		return brought{}, damaged(err)
	}
	return got, nil
}

// history asks for commits alone where the server filters, and otherwise for
// what else changed with them.
func (v *serverVisit) history(ctx context.Context, commit unit.Hash, depth int, have state) (history, error) {
	have = have.whole()
	base := objects(nil)
	filters := v.refs.Capabilities.Supports(capability.Filter)
	if filters {
		have = state{} // commits are small, and the server need not think
	} else {
		depth = min(depth, unfilteredDepth)
		base = have.objects
	}
	request, err := request(v.refs, commit, have)
	if err != nil {
		return nil, v.server.explain(ctx, v.with, err)
	}
	request.Depth = packp.DepthCommits(depth)
	if filters {
		if err := request.Capabilities.Set(capability.Filter); err != nil {
			return nil, err
		}
		request.Filter = packp.FilterTreeDepth(0)
	}
	pack, err := v.send(ctx, request)
	if err != nil && !have.empty() && ctx.Err() == nil && !errors.Is(err, errLimit) { // as for commits
		return v.history(ctx, commit, depth, state{})
	}
	if err != nil {
		return nil, v.server.explain(ctx, v.with, err)
	}
	if err := guardPack(pack, v.server.cfg.Limits); err != nil {
		return nil, damaged(err)
	}
	all, err := unpack(pack, base)
	if err != nil {
		return nil, damaged(err)
	}
	known, err := all.commits()
	if err != nil {
		return nil, damaged(err)
	}
	return known, nil
}

// unfilteredDepth bounds how many commits are asked for with their files.
const unfilteredDepth = 64

// send asks for a pack, in a new session if this one was used.
func (v *serverVisit) send(ctx context.Context, request *packp.UploadPackRequest) ([]byte, error) {
	if v.used {
		_ = v.session.Close() // nothing is expected of it
		session, with, err := v.server.line.open(ctx)
		if err != nil {
			return nil, err
		}
		if session.old == nil { // it was brought up to date just now
			_ = session.talk.Close()
			return nil, errors.New("the server speaks another version of Git's protocol than before")
		}
		refs, err := v.server.advertised(ctx, session.old)
		if err != nil {
			return nil, err
		}
		v.session, v.refs, v.with = session.old, refs, with
	}
	v.used = true
	answer, err := v.session.UploadPack(ctx, request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Close() }() // it was read to its end, or is no longer wanted
	return readPack(demultiplex(request.Capabilities, answer), v.server.cfg.Limits.PackBytes)
}

// request asks for one commit without its history, given what we have.
func request(refs *packp.AdvRefs, tip unit.Hash, have state) (*packp.UploadPackRequest, error) {
	if !refs.Capabilities.Supports(capability.Shallow) {
		return nil, errNotShallow
	}
	request := packp.NewUploadPackRequestFromCapabilities(refs.Capabilities)
	wanted := []capability.Capability{capability.Shallow}
	if refs.Capabilities.Supports(capability.NoProgress) {
		wanted = append(wanted, capability.NoProgress)
	}
	for _, c := range wanted {
		if err := request.Capabilities.Set(c); err != nil {
			return nil, fmt.Errorf("capability %s: %w", c, err)
		}
	}
	request.Depth = packp.DepthCommits(1)
	request.Wants = append(request.Wants, plumbing.Hash(tip))
	if !have.empty() {
		request.Haves = append(request.Haves, plumbing.Hash(have.commit))
		request.Shallows = append(request.Shallows, plumbing.Hash(have.commit))
	}
	return request, nil
}

func demultiplex(negotiated *capability.List, answer io.Reader) io.Reader {
	switch {
	case negotiated.Supports(capability.Sideband64k):
		return sideband.NewDemuxer(sideband.Sideband64k, answer)
	case negotiated.Supports(capability.Sideband):
		return sideband.NewDemuxer(sideband.Sideband, answer)
	default:
		return answer
	}
}

func readPack(r io.Reader, limit int64) ([]byte, error) {
	pack, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(pack)) > limit {
		return nil, damaged(fmt.Errorf("%w: the pack has more than %d bytes", errLimit, limit))
	}
	return pack, nil
}
