package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// packetKind tells a packet with data from the marks between them.
type packetKind int

const (
	packetData packetKind = iota
	packetFlush
	packetDelim
	packetEnd
)

// packets reads what a server that speaks protocol version 2 says. go-git's own
// reader does not know the marks that came with that version.
type packets struct {
	in  io.Reader
	buf []byte
}

const maxPacket = 65520

func newPackets(in io.Reader) *packets { return &packets{in: in, buf: make([]byte, maxPacket)} }

// next gives a packet. Its data is good until the next one.
func (p *packets) next() (packetKind, []byte, error) {
	head := p.buf[:4]
	if _, err := io.ReadFull(p.in, head); err != nil {
		return 0, nil, noEOF(err)
	}
	n, err := strconv.ParseUint(string(head), 16, 16)
	if err != nil {
		return 0, nil, errors.New("the answer is not Git's: a packet has no length")
	}
	switch {
	case n < 3:
		return []packetKind{packetFlush, packetDelim, packetEnd}[n], nil, nil
	case n < 4 || n > maxPacket:
		return 0, nil, fmt.Errorf("the answer is malformed: a packet of %d bytes", n)
	}
	data := p.buf[:n-4]
	_, err = io.ReadFull(p.in, data)
	return packetData, data, noEOF(err)
}

// line gives a packet that is a line of text, without its end. What a server
// says went wrong is the error.
func (p *packets) line() (packetKind, string, error) {
	kind, data, err := p.next()
	if err != nil || kind != packetData {
		return kind, "", err
	}
	if said, ok := bytes.CutPrefix(data, []byte("ERR ")); ok {
		return kind, "", &serverSays{string(said)}
	}
	return kind, string(bytes.TrimSuffix(data, []byte("\n"))), nil
}

// serverSays is an error in a server's own words.
type serverSays struct{ text string }

func (e *serverSays) Error() string { return "the server says: " + e.text }

// appendPacket adds a line to what is said to a server.
func appendPacket(to []byte, line string) []byte {
	return fmt.Appendf(to, "%04x%s\n", len(line)+5, line)
}

const (
	flushMark = "0000"
	delimMark = "0001"
)
