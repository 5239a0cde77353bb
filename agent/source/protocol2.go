package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/capstan-gitops/capstan/agent/unit"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// abilities are what a server that speaks protocol version 2 offers.
type abilities struct {
	refs, fetch bool
	shallow     bool
	filter      bool // gives commits without their files
	sha1        bool // wants to be told which hash is meant
}

// errOldProtocol says that a server speaks version 0 or 1.
var errOldProtocol = errors.New("the server does not speak version 2 of Git's protocol")

const (
	maxAbilities = 200
	versionTwo   = "version 2"
)

// readAbilities reads a server's first words.
func readAbilities(in io.Reader) (abilities, error) {
	p := newPackets(in)
	kind, text, err := p.line()
	if err == nil && strings.HasPrefix(text, "# service=") { // over HTTP, mostly
		if kind, _, err = p.line(); err == nil && kind == packetFlush {
			kind, text, err = p.line()
		}
	}
	if err != nil || kind != packetData || text != versionTwo {
		return abilities{}, errOldProtocol // whoever speaks it finds out what is wrong
	}
	var able abilities
	for range maxAbilities {
		kind, text, err := p.line()
		if err != nil {
			return able, err
		}
		if kind != packetData {
			return able, able.check()
		}
		if err := able.learn(text); err != nil {
			return able, err
		}
	}
	return able, errors.New("the server's first words do not end")
}

func (a *abilities) learn(text string) error {
	name, value, _ := strings.Cut(text, "=")
	switch name {
	case "ls-refs":
		a.refs = true
	case "fetch":
		a.fetch = true
		for word := range strings.FieldsSeq(value) {
			a.shallow = a.shallow || word == "shallow"
			a.filter = a.filter || word == "filter"
		}
	case "object-format":
		if value != "sha1" {
			return fleet.WithHint(fleet.Invalid("the repository names its objects by %s", plain(value)),
				"follow a repository that names them by SHA-1: make it with git init --object-format=sha1")
		}
		a.sha1 = true
	}
	return nil
}

func (a *abilities) check() error {
	if !a.refs || !a.fetch {
		return errOldProtocol
	}
	if !a.shallow {
		return errNotShallow
	}
	return nil
}

// command is one that a server is asked to carry out.
func (a abilities) command(name string, arguments ...string) []byte {
	b := appendPacket(nil, "command="+name)
	if a.sha1 {
		b = appendPacket(b, "object-format=sha1")
	}
	b = append(b, delimMark...)
	for _, each := range arguments {
		b = appendPacket(b, each)
	}
	return append(b, flushMark...)
}

// errManyRefs says that not all references were read.
var errManyRefs = errors.New("there are more references")

// readRefs reads an answer to ls-refs, of at most some references.
func readRefs(in io.Reader, most int) (references, error) {
	p := newPackets(in)
	refs := references{}
	for {
		kind, text, err := p.line()
		if err != nil {
			return nil, err
		}
		if kind == packetFlush {
			return refs, nil
		}
		hash, rest, _ := strings.Cut(text, " ")
		name, _, _ := strings.Cut(rest, " ")
		tip, err := unit.ParseHash(hash)
		if kind != packetData || err != nil || name == "" {
			return nil, errors.New("the list of branches and tags is malformed")
		}
		if len(refs) == most {
			return refs, errManyRefs
		}
		refs[name] = tip
	}
}

// wish is what a server is to send.
type wish struct {
	wants  []unit.Hash
	have   unit.Hash // a commit that we have without its history; zero: none
	depth  int       // 0: what is wanted alone, as files have no history
	filter string
}

func (w wish) arguments() []string {
	all := []string{"no-progress", "ofs-delta"}
	if !w.have.IsZero() {
		all = append(all, "thin-pack", "shallow "+w.have.String())
	}
	if w.depth > 0 {
		all = append(all, fmt.Sprintf("deepen %d", w.depth))
	}
	if w.filter != "" {
		all = append(all, "filter "+w.filter)
	}
	for _, h := range w.wants {
		all = append(all, "want "+h.String())
	}
	if !w.have.IsZero() {
		all = append(all, "have "+w.have.String())
	}
	return append(all, "done")
}

// readPackAnswer reads an answer to fetch, to its end, and gives the pack.
func readPackAnswer(in io.Reader, limit int64) ([]byte, error) {
	p := newPackets(in)
	for {
		kind, section, err := p.line()
		switch {
		case err != nil:
			return nil, err
		case kind != packetData:
			return nil, errors.New("the server sends no pack")
		case section == "packfile":
			return readBands(p, limit)
		case section != "shallow-info":
			return nil, fmt.Errorf("the server sends what was not asked for: %s", plain(section))
		}
		// What of the history is not there we know: we asked for it to be so.
		for kind == packetData {
			if kind, _, err = p.line(); err != nil {
				return nil, err
			}
		}
		if kind != packetDelim {
			return nil, errors.New("the server sends no pack")
		}
	}
}

// readBands takes the pack out of what comes beside it.
func readBands(p *packets, limit int64) ([]byte, error) {
	var pack bytes.Buffer
	for {
		kind, data, err := p.next()
		switch {
		case err != nil:
			return nil, err
		case kind == packetFlush:
			return pack.Bytes(), nil
		case kind != packetData || len(data) == 0:
			return nil, errors.New("the pack's packets are malformed")
		}
		switch data[0] {
		case 1:
			pack.Write(data[1:])
			if int64(pack.Len()) > limit {
				return nil, damaged(fmt.Errorf("%w: the pack has more than %d bytes", errLimit, limit))
			}
		case 2: // progress
		case 3:
			return nil, &serverSays{string(data[1:])}
		default:
			return nil, errors.New("the pack's packets are malformed")
		}
	}
}
