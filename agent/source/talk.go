package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// talk is a conversation with a server in version 2 of Git's protocol: one
// command after another.
type talk interface {
	io.Closer
	able() abilities
	// ask has a command carried out. The answer is read to its end before the
	// next one, and closed.
	ask(ctx context.Context, command []byte) (io.ReadCloser, error)
}

// talkVisit is a visit in version 2.
type talkVisit struct {
	server *server
	talk   talk
	refs   references
	with   credentials
}

var _ visit = (*talkVisit)(nil)

func (v *talkVisit) references() references { return v.refs }

func (v *talkVisit) gives() bool { return true }

func (v *talkVisit) Close() error { return v.talk.Close() }

// maxOtherRefs bounds what is read to say which branches there are instead.
const maxOtherRefs = 1000

// listRefs asks for the references that matter, and for others if there are none
// of these: what there is instead helps whoever mistyped one.
func (v *talkVisit) listRefs(ctx context.Context) error {
	narrow, wide := v.server.cfg.Ref.prefixes()
	if narrow == "" { // a commit is asked for by its name
		return nil
	}
	var err error
	if v.refs, err = v.lsRefs(ctx, int(v.server.cfg.Limits.Objects), narrow); err != nil || len(v.refs) > 0 {
		return err
	}
	for _, prefix := range []string{wide, ""} {
		if v.refs, err = v.lsRefs(ctx, maxOtherRefs, prefix); errors.Is(err, errManyRefs) {
			err = nil
		}
		if err != nil || len(v.refs) > 0 {
			return err
		}
	}
	return transport.ErrEmptyRemoteRepository
}

func (v *talkVisit) lsRefs(ctx context.Context, most int, prefix string) (references, error) {
	var arguments []string
	if prefix != "" {
		arguments = append(arguments, "ref-prefix "+prefix)
	}
	answer, err := v.talk.ask(ctx, v.talk.able().command("ls-refs", arguments...))
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Close() }() // it was read to its end, or is no longer wanted
	return readRefs(answer, most)
}

// fetch asks for a pack, and gives what is in it.
func (v *talkVisit) fetch(ctx context.Context, w wish, base objects) (objects, error) {
	answer, err := v.talk.ask(ctx, v.talk.able().command("fetch", w.arguments()...))
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Close() }() // likewise
	limits := v.server.cfg.Limits
	pack, err := readPackAnswer(answer, limits.PackBytes)
	if err != nil {
		return nil, err
	}
	if err := guardPack(pack, limits); err != nil {
		return nil, damaged(err)
	}
	added, err := unpackAlone(pack, base)
	if err != nil {
		return nil, damaged(err)
	}
	return added, nil
}

// bring downloads what the tip needs and we lack: in a large repository without
// its files. A server that was wrong about what we have is asked for everything.
func (v *talkVisit) bring(ctx context.Context, tip unit.Hash, have state) (brought, error) {
	got, err := v.download(ctx, tip, have)
	if err != nil && !have.empty() && ctx.Err() == nil && !errors.Is(err, errLimit) {
		got, err = v.download(ctx, tip, state{})
	}
	if err != nil {
		return brought{}, v.server.explain(ctx, v.with, err)
	}
	return got, nil
}

func (v *talkVisit) download(ctx context.Context, tip unit.Hash, have state) (brought, error) {
	blobless := v.talk.able().filter && !have.small(v.server.cfg.small)
	if !blobless {
		have = have.whole()
	}
	w := wish{wants: []unit.Hash{tip}, have: have.commit, depth: 1}
	if blobless {
		w.filter = "blob:none"
	}
	added, err := v.fetch(ctx, w, have.objects)
	if err != nil {
		return brought{}, err
	}
	all := maps.Clone(added)
	for h, o := range have.objects {
		if !blobless || o.kind != plumbing.BlobObject {
			all[h] = o
		}
	}
	got, err := all.of(tip, v.server.cfg.Limits, !blobless)
	if err != nil {
		return brought{}, damaged(err)
	}
	if err := got.asked(added); err != nil {
		return brought{}, damaged(err)
	}
	if blobless && len(got.names) <= v.server.cfg.small {
		return v.complete(ctx, tip, have, got)
	}
	return got, nil
}

// smallRepository is how many different files are kept all, and brought with each
// commit: that is one round trip less, and what it costs in memory does not show
// beside the agent itself (ARCHITECTURE.md has the numbers).
const smallRepository = 1000

// complete brings the files of a small repository. One with files so large that
// they do not come is left without.
func (v *talkVisit) complete(ctx context.Context, tip unit.Hash, have state, got brought) (brought, error) {
	all := maps.Clone(got.objects)
	var wants []unit.Hash
	for _, h := range got.names {
		if o, ok := have.objects[h]; ok {
			all[h] = o
		} else {
			wants = append(wants, h)
		}
	}
	if len(wants) > 0 {
		files, err := v.files(ctx, wants)
		if errors.Is(err, errLimit) {
			return got, nil
		}
		if err != nil {
			return brought{}, err
		}
		maps.Copy(all, files)
	}
	whole, err := all.of(tip, v.server.cfg.Limits, true)
	if err != nil {
		return brought{}, damaged(err)
	}
	return whole, nil
}

// files brings files by their names: these and no others.
func (v *talkVisit) files(ctx context.Context, wants []unit.Hash) (objects, error) {
	got, err := v.fetch(ctx, wish{wants: wants}, nil)
	if err != nil {
		return nil, err
	}
	for _, h := range wants {
		if o, ok := got[h]; !ok || o.kind != plumbing.BlobObject {
			return nil, damaged(fmt.Errorf("the server does not send file %s, which it was asked for", h))
		}
	}
	if len(got) != len(wants) {
		return nil, damaged(errUnasked)
	}
	return got, nil
}

var errUnasked = errors.New("the server sends objects that were not asked for")

// history asks for commits alone where the server filters, and otherwise for
// what else changed with them.
func (v *talkVisit) history(ctx context.Context, commit unit.Hash, depth int, have state) (history, error) {
	w := wish{wants: []unit.Hash{commit}, depth: depth}
	base := objects(nil)
	if v.talk.able().filter {
		w.filter = "tree:0" // commits are small, and the server need not think
		have = state{}
	} else {
		have = have.whole()
		w.depth, w.have, base = min(depth, unfilteredDepth), have.commit, have.objects
	}
	got, err := v.fetch(ctx, w, base)
	if err != nil && !have.empty() && ctx.Err() == nil && !errors.Is(err, errLimit) { // as for commits
		return v.history(ctx, commit, depth, state{})
	}
	if err != nil {
		return nil, v.server.explain(ctx, v.with, err)
	}
	all := maps.Clone(got)
	maps.Copy(all, base)
	known, err := all.commits()
	if err != nil {
		return nil, damaged(err)
	}
	return known, nil
}
