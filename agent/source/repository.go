package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// Repository follows one branch of a repository. It is safe for concurrent use.
type Repository struct {
	cfg    Config
	dialer *dialer
	parsed *parsedTrees

	fetching chan struct{} // holds one value while a fetch runs
	last     state         // belongs to who fetches
	refused  refusal       // likewise
}

// refusal is a commit over the limits. It stays so: it is not downloaded again.
type refusal struct {
	commit unit.Hash
	err    error
}

// state is what the last fetch gave.
type state struct {
	commit   unit.Hash
	objects  objects
	snapshot unit.Snapshot
}

// allowThinPacks lets go-git tell us that a server sends thin packs: packs whose
// deltas build on objects the client has. go-git hides that because its own
// clone can't resolve them in every storage. Our storage can, and without it
// each fetch would bring the whole repository again. The list is the process's,
// and nothing else here uses go-git.
var allowThinPacks = sync.OnceFunc(func() {
	transport.UnsupportedCapabilities = slices.DeleteFunc(slices.Clone(transport.UnsupportedCapabilities),
		func(c capability.Capability) bool { return c == capability.ThinPack })
})

// New checks the configuration. It connects to nothing.
func New(cfg Config) (*Repository, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	allowThinPacks()
	d, err := newDialer(cfg)
	if err != nil {
		return nil, err
	}
	return &Repository{cfg: cfg, dialer: d, parsed: newParsedTrees(), fetching: make(chan struct{}, 1)}, nil
}

// Fetch gives the branch's newest commit. When that is the one it gave last, one
// small request is all it costs, and the snapshot is the same one. Snapshots
// given earlier stay readable.
//
// Errors have a hint; errors.Is tells fleet.ErrUnavailable (the server can't be
// reached or fails), fleet.ErrForbidden (it refuses the credentials),
// fleet.ErrNotFound (no such repository or branch, or nothing in it) and
// fleet.ErrInvalid (the content is damaged or over the limits).
func (r *Repository) Fetch(ctx context.Context) (unit.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	select {
	case r.fetching <- struct{}{}:
		defer func() { <-r.fetching }()
	case <-ctx.Done():
		return unit.Snapshot{}, r.explain(ctx, credentials{}, ctx.Err())
	}
	with, err := r.cfg.credentials()
	if err == nil {
		err = r.fetch(ctx, with)
	}
	if err != nil {
		return unit.Snapshot{}, r.explain(ctx, with, err)
	}
	return r.last.snapshot, nil
}

func (r *Repository) fetch(ctx context.Context, with credentials) error {
	session, err := r.dialer.session(with.auth())
	if err != nil {
		return err
	}
	defer session.Close()
	refs, err := session.AdvertisedReferencesContext(ctx)
	if err != nil {
		return err
	}
	tip, ok := refs.References[r.cfg.ref().String()]
	if !ok {
		return r.noBranch(refs)
	}
	commit := unit.Hash(tip)
	if commit == r.last.commit && r.last.objects != nil {
		return nil
	}
	if commit == r.refused.commit && r.refused.err != nil {
		return r.refused.err
	}
	kept, root, err := r.bring(ctx, session, refs, commit)
	if err != nil {
		if errors.Is(err, errLimit) {
			r.refused = refusal{commit: commit, err: err}
		}
		return err
	}
	r.refused = refusal{}
	r.last = state{commit: commit, objects: kept, snapshot: unit.Snapshot{
		RepoURL: r.cfg.URL, Ref: r.cfg.Branch, Commit: commit.String(), Root: root,
		Tree: &tree{objects: kept, parsed: r.parsed},
	}}
	return nil
}

// bring downloads what the commit needs and we lack. A server that was wrong
// about what we have, because history was rewritten under it, is asked for
// everything.
func (r *Repository) bring(ctx context.Context, session transport.UploadPackSession, refs *packp.AdvRefs, commit unit.Hash) (objects, unit.Hash, error) {
	if r.last.objects != nil {
		kept, root, err := r.download(ctx, session, refs, commit, r.last)
		if err == nil || ctx.Err() != nil || errors.Is(err, errLimit) {
			return kept, root, err
		}
	}
	return r.download(ctx, session, refs, commit, state{})
}

func (r *Repository) download(ctx context.Context, session transport.UploadPackSession, refs *packp.AdvRefs, commit unit.Hash, have state) (objects, unit.Hash, error) {
	request, err := request(refs, commit, have)
	if err != nil {
		return nil, unit.Hash{}, err
	}
	answer, err := session.UploadPack(ctx, request)
	if err != nil {
		return nil, unit.Hash{}, err
	}
	defer func() { _ = answer.Close() }() // it was read to its end, or is no longer wanted
	pack, err := readPack(demultiplex(request.Capabilities, answer), r.cfg.Limits.PackBytes)
	if err != nil {
		return nil, unit.Hash{}, err
	}
	if err := guardPack(pack, r.cfg.Limits); err != nil {
		return nil, unit.Hash{}, damaged(err)
	}
	all, err := unpack(pack, have.objects)
	if err != nil {
		return nil, unit.Hash{}, damaged(err)
	}
	kept, root, err := all.reachable(commit)
	if err == nil {
		err = kept.within(r.cfg.Limits)
	}
	if err != nil {
		return nil, unit.Hash{}, damaged(err)
	}
	return kept, root, nil
}

// request asks for one commit without its history, given what we have.
func request(refs *packp.AdvRefs, commit unit.Hash, have state) (*packp.UploadPackRequest, error) {
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
	request.Wants = append(request.Wants, plumbing.Hash(commit))
	if have.objects != nil {
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
		return nil, damaged(fmt.Errorf("%w: the server sends more than %d bytes", errLimit, limit))
	}
	return pack, nil
}
