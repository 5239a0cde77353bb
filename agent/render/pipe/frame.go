package pipe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Kind says what a frame's body is.
type Kind byte

// Who sends each, and what it holds.
const (
	KindSetup    Kind = iota + 1 // parent: limits, once
	KindHello                    // worker: what it is confined by, once
	KindJob                      // parent: render this
	KindAskTree                  // worker: a directory's hash
	KindAskBlob                  // worker: a file's hash, and the most it takes
	KindAnswer                   // parent: what was asked for
	KindOutcome                  // worker: objects, or what is wrong
	KindAskChart                 // worker: something of a place where charts are kept
	KindAskKey                   // worker: a data key, as it is encrypted for several
)

// maxFrame bounds a frame, and so what one side can make the other keep.
const maxFrame = 64 << 20

// ErrFrame is in every error about a frame that is not as it must be.
var ErrFrame = errors.New("malformed frame")

// WriteFrame writes one frame.
func WriteFrame(w io.Writer, k Kind, body []byte) error {
	if len(body) > maxFrame {
		return fmt.Errorf("frame of %d bytes is over the limit of %d", len(body), maxFrame)
	}
	head := make([]byte, 5, 5+len(body))
	binary.BigEndian.PutUint32(head, uint32(len(body)))
	head[4] = byte(k)
	_, err := w.Write(append(head, body...))
	return err
}

// ReadFrame reads one. It fails with io.EOF only between frames. A length is believed as far
// as bytes follow it.
func ReadFrame(r io.Reader) (Kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int64(binary.BigEndian.Uint32(head[:]))
	if n > maxFrame {
		return 0, nil, fmt.Errorf("%w: %d bytes", ErrFrame, n)
	}
	if n <= 64<<10 {
		body := make([]byte, n)
		_, err := io.ReadFull(r, body)
		return Kind(head[4]), body, noEOF(err)
	}
	var body bytes.Buffer
	_, err := io.CopyN(&body, r, n)
	return Kind(head[4]), body.Bytes(), noEOF(err)
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// encoder and decoder write the bodies: varints, and bytes after their length.
type encoder struct{ b []byte }

func (e *encoder) uint(n uint64)   { e.b = binary.AppendUvarint(e.b, n) }
func (e *encoder) bytes(p []byte)  { e.uint(uint64(len(p))); e.b = append(e.b, p...) }
func (e *encoder) string(s string) { e.uint(uint64(len(s))); e.b = append(e.b, s...) }

func (e *encoder) bool(b bool) {
	if b {
		e.uint(1)
	} else {
		e.uint(0)
	}
}

func (e *encoder) strings(all []string) {
	e.uint(uint64(len(all)))
	for _, s := range all {
		e.string(s)
	}
}

// decoder keeps its first error; after it every value is zero.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail() { d.b, d.err = nil, ErrFrame }

func (d *decoder) uint() uint64 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) string() string { return string(d.bytes()) }

func (d *decoder) bool() bool {
	switch d.uint() {
	case 0:
		return false
	case 1:
		return true
	}
	d.fail()
	return false
}

// count reads how many items follow, each of at least so many bytes: what is
// announced, and made room for, can't be more than what is there.
func (d *decoder) count(each int) int {
	n := d.uint()
	if n > uint64(len(d.b)/each) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) strings() []string {
	n := d.count(1)
	if n == 0 {
		return nil
	}
	all := make([]string, 0, n)
	for range n {
		all = append(all, d.string())
	}
	return all
}

// done tells whether the whole body was understood.
func (d *decoder) done() error {
	if d.err == nil && len(d.b) > 0 {
		return fmt.Errorf("%w: %d bytes too many", ErrFrame, len(d.b))
	}
	return d.err
}
