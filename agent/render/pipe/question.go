package pipe

import "github.com/capstan-gitops/capstan/agent/unit"

// AskTree asks for a directory.
type AskTree struct{ Dir unit.Hash }

// AskBlob asks for a file, if it has at most so many bytes.
type AskBlob struct {
	File unit.Hash
	Most uint64
}

// AskChart asks for something of a place where charts are kept.
type AskChart struct{ File unit.ChartFile }

// Encode writes the frame's body.
func (a AskChart) Encode() []byte {
	var e encoder
	e.uint(uint64(a.File.Kind))
	e.string(a.File.Repository)
	e.string(a.File.Name)
	e.string(a.File.Ref)
	e.string(a.File.Digest)
	return e.b
}

// DecodeAskChart reads what Encode wrote.
func DecodeAskChart(b []byte) (AskChart, error) {
	d := decoder{b: b}
	a := AskChart{unit.ChartFile{Kind: unit.ChartFileKind(d.uint()), Repository: d.string(), Name: d.string(), Ref: d.string(), Digest: d.string()}}
	return a, d.done()
}

// Encode writes the frame's body.
func (a AskTree) Encode() []byte {
	var e encoder
	e.bytes(a.Dir[:])
	return e.b
}

// DecodeAskTree reads what Encode wrote.
func DecodeAskTree(b []byte) (AskTree, error) {
	d := decoder{b: b}
	a := AskTree{Dir: d.hash()}
	return a, d.done()
}

// Encode writes the frame's body.
func (a AskBlob) Encode() []byte {
	var e encoder
	e.bytes(a.File[:])
	e.uint(a.Most)
	return e.b
}

// DecodeAskBlob reads what Encode wrote.
func DecodeAskBlob(b []byte) (AskBlob, error) {
	d := decoder{b: b}
	a := AskBlob{File: d.hash(), Most: d.uint()}
	return a, d.done()
}

// Status begins an answer.
type Status uint64

// What became of a question. All but StatusOK are the whole answer.
const (
	StatusOK       Status = iota
	StatusTooLarge        // one file or directory
	StatusBudget          // all that this render asked for
	StatusFailed          // the object can't be had: not the repository's fault
	StatusRefused         // a key that is not for this app, or that is not there
	StatusAway            // a key that can't be asked now: not the repository's fault
)

// Refusal is an answer without what was asked for.
func Refusal(s Status) []byte {
	var e encoder
	e.uint(uint64(s))
	return e.b
}

// EncodeBlob is the answer to AskBlob.
func EncodeBlob(content []byte) []byte {
	var e encoder
	e.uint(uint64(StatusOK))
	e.bytes(content)
	return e.b
}

// DecodeBlob reads the answer to AskBlob.
func DecodeBlob(b []byte) ([]byte, Status, error) {
	d := decoder{b: b}
	s := Status(d.uint())
	if s != StatusOK || d.err != nil {
		return nil, s, d.done()
	}
	content := d.bytes()
	return content, s, d.done()
}

// DecodeEntries reads the answer to AskTree.
func DecodeEntries(b []byte) ([]unit.TreeEntry, Status, error) {
	d := decoder{b: b}
	s := Status(d.uint())
	if s != StatusOK || d.err != nil {
		return nil, s, d.done()
	}
	entries := d.entries()
	return entries, s, d.done()
}

// EncodeEntries is the answer to AskTree.
func EncodeEntries(entries []unit.TreeEntry) []byte {
	var e encoder
	e.uint(uint64(StatusOK))
	e.uint(uint64(len(entries)))
	for _, t := range entries {
		e.string(t.Name)
		e.uint(uint64(t.Mode))
		e.bytes(t.Hash[:])
	}
	return e.b
}

func (d *decoder) entries() []unit.TreeEntry {
	n := d.count(hashSize + 3)
	all := make([]unit.TreeEntry, 0, n)
	for range n {
		all = append(all, unit.TreeEntry{Name: d.string(), Mode: unit.Mode(d.uint()), Hash: d.hash()})
	}
	return all
}

const hashSize = len(unit.Hash{})

func (d *decoder) hash() unit.Hash {
	var h unit.Hash
	b := d.bytes()
	if len(b) != len(h) {
		d.fail()
		return h
	}
	copy(h[:], b)
	return h
}
