package source

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1" // it is what a pack's checksum is made with
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Limits bound what one fetch may bring, so that a repository can't exhaust the
// agent's memory: a gigabyte of zeros is less than a megabyte in a pack.
type Limits struct {
	PackBytes   int64  // as sent, compressed
	ObjectBytes int64  // one object, inflated
	TotalBytes  int64  // all objects, inflated
	Objects     uint32 // files, directories and commits
	Depth       int    // of directories in each other
}

func (l *Limits) setDefaults() {
	if l.PackBytes == 0 {
		l.PackBytes = 64 << 20
	}
	if l.ObjectBytes == 0 {
		l.ObjectBytes = 16 << 20
	}
	if l.TotalBytes == 0 {
		l.TotalBytes = 256 << 20
	}
	if l.Objects == 0 {
		l.Objects = 200_000
	}
	if l.Depth == 0 {
		l.Depth = 100
	}
}

// answerBytes bounds what a server says: beside the pack there are packets'
// headers and the list of references.
func (l *Limits) answerBytes() int64 { return l.PackBytes + l.PackBytes/16 + 1<<20 }

// errLimit is within every error that says a fetch is over the limits.
var errLimit = errors.New("over the limit")

const (
	packHeaderLen  = 12
	packTrailerLen = sha1.Size
)

// guardPack inflates every object of a pack, keeping nothing, and refuses the
// pack if it is over the limits. go-git's parser has no limits of its own.
func guardPack(pack []byte, limits Limits) error {
	if len(pack) < packHeaderLen+packTrailerLen || string(pack[:4]) != "PACK" || binary.BigEndian.Uint32(pack[4:]) != 2 {
		return errors.New("what the server sent is not a pack")
	}
	body, trailer := pack[:len(pack)-packTrailerLen], pack[len(pack)-packTrailerLen:]
	if sum := sha1.Sum(body); !bytes.Equal(sum[:], trailer) {
		return errors.New("the pack is damaged or cut short: its checksum does not match")
	}
	count := binary.BigEndian.Uint32(pack[8:])
	if count > limits.Objects {
		return fmt.Errorf("%w: %d objects, at most %d are read", errLimit, count, limits.Objects)
	}
	g := guard{limits: limits, in: bytes.NewReader(body[packHeaderLen:])}
	for range count {
		if err := g.object(); err != nil {
			return fmt.Errorf("pack: %w", noEOF(err))
		}
	}
	if g.in.Len() != 0 {
		return errors.New("pack: there is more in it than its header says")
	}
	return nil
}

type guard struct {
	limits Limits
	in     *bytes.Reader // an io.ByteReader: zlib reads no further than an object's end
	z      io.ReadCloser
	total  int64
}

func (g *guard) object() error {
	kind, size, err := g.header()
	if err != nil {
		return err
	}
	delta := false
	switch kind {
	case 1, 2, 3, 4: // commit, tree, blob, tag
	case 6: // a delta, with its base's distance in the pack
		delta = true
		if err := g.skipVarint(); err != nil {
			return err
		}
	case 7: // a delta, with its base's name
		delta = true
		if _, err := io.CopyN(io.Discard, g.in, 20); err != nil {
			return err
		}
	default:
		return fmt.Errorf("an object has the unknown type %d", kind)
	}
	if err := g.add(uint64(size)); err != nil {
		return err
	}
	return g.content(size, delta)
}

// content inflates one object, and of a delta adds what it will make.
func (g *guard) content(size int64, delta bool) error {
	var err error
	if g.z == nil {
		g.z, err = zlib.NewReader(g.in)
	} else {
		err = g.z.(zlib.Resetter).Reset(g.in, nil)
	}
	if err != nil {
		return err
	}
	content := io.LimitReader(g.z, size+1)
	var got int64
	if delta {
		var head [2 * binary.MaxVarintLen64]byte
		n, err := io.ReadFull(content, head[:])
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		got = int64(n)
		_, source := binary.Uvarint(head[:n])
		if source <= 0 {
			return errors.New("a delta is malformed")
		}
		result, read := binary.Uvarint(head[source:n])
		if read <= 0 {
			return errors.New("a delta is malformed")
		}
		if err := g.add(result); err != nil {
			return err
		}
	}
	n, err := io.Copy(io.Discard, content)
	if err != nil {
		return err
	}
	if got+n != size {
		return errors.New("an object's size is not what its header says")
	}
	return nil
}

// header reads an object's type and inflated size.
func (g *guard) header() (kind byte, size int64, err error) {
	c, err := g.in.ReadByte()
	if err != nil {
		return 0, 0, err
	}
	kind, size = c>>4&7, int64(c&15)
	for shift := 4; c&0x80 != 0; shift += 7 {
		if shift > 53 { // 60 bits: no size comes near, and nothing overflows
			return 0, 0, errors.New("an object's size is malformed")
		}
		if c, err = g.in.ReadByte(); err != nil {
			return 0, 0, err
		}
		size |= int64(c&0x7f) << shift
	}
	return kind, size, nil
}

func (g *guard) skipVarint() error {
	for {
		c, err := g.in.ReadByte()
		if err != nil || c&0x80 == 0 {
			return err
		}
	}
}

func (g *guard) add(size uint64) error {
	if size > uint64(g.limits.ObjectBytes) {
		return fmt.Errorf("%w: a file of %d bytes, at most %d are read", errLimit, size, g.limits.ObjectBytes)
	}
	if g.total += int64(size); g.total > g.limits.TotalBytes {
		return fmt.Errorf("%w: more than %d bytes in all", errLimit, g.limits.TotalBytes)
	}
	return nil
}

// noEOF keeps an end in the middle from looking like a proper end.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
