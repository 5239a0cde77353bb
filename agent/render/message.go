package render

import (
	"maps"
	"slices"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// setup is the first frame to a worker.
type setup struct{ memory uint64 }

func (s setup) encode() []byte {
	var e encoder
	e.uint(s.memory)
	return e.b
}

func decodeSetup(b []byte) (setup, error) {
	d := decoder{b: b}
	s := setup{memory: d.uint()}
	return s, d.done()
}

// job is one render.
type job struct {
	root  unit.Hash
	path  string // maybe a template
	facts unit.Facts

	directory *unit.Directory // nil: what is in the path decides
}

func (j job) encode() []byte {
	var e encoder
	e.bytes(j.root[:])
	e.string(j.path)
	e.string(j.facts.Cluster)
	e.labels(j.facts.Labels)
	if j.directory == nil {
		e.uint(0)
		return e.b
	}
	e.uint(1)
	e.bool(j.directory.Recurse)
	e.strings(j.directory.Include)
	e.strings(j.directory.Exclude)
	return e.b
}

func decodeJob(b []byte) (job, error) {
	d := decoder{b: b}
	j := job{root: d.hash(), path: d.string()}
	j.facts = unit.Facts{Cluster: d.string(), Labels: d.labels()}
	if d.bool() {
		j.directory = &unit.Directory{Recurse: d.bool(), Include: d.strings(), Exclude: d.strings()}
	}
	return j, d.done()
}

// status begins an answer.
type status uint64

const (
	statusOK       status = iota
	statusTooLarge        // one file or directory
	statusBudget          // all that this render asked for
	statusFailed          // the object can't be had: not the repository's fault
)

func encodeEntries(entries []unit.TreeEntry) []byte {
	var e encoder
	e.uint(uint64(statusOK))
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

// outcome is what a job gave. failure is nil where it worked.
type outcome struct {
	path    string
	reads   unit.ReadSet
	objects []unit.Object
	failure *failure
}

// failure is a render that went wrong through what the repository holds.
type failure struct {
	file, message, hint string
	line                int
}

func (f *failure) Error() string { return f.message }

func (o outcome) encode() []byte {
	var e encoder
	e.string(o.path)
	e.reads(o.reads)
	if f := o.failure; f != nil {
		e.uint(1)
		e.string(f.file)
		e.uint(uint64(f.line))
		e.string(f.message)
		e.string(f.hint)
		return e.b
	}
	e.uint(0)
	e.uint(uint64(len(o.objects)))
	for _, obj := range o.objects {
		r := obj.Ref
		e.string(r.Group)
		e.string(r.Version)
		e.string(r.Kind)
		e.string(r.Namespace)
		e.string(r.Name)
		e.bytes(obj.JSON)
	}
	return e.b
}

func decodeOutcome(b []byte) (outcome, error) {
	d := decoder{b: b}
	o := outcome{path: d.string(), reads: d.reads()}
	if d.uint() == 1 {
		f := &failure{file: d.string(), line: int(d.uint() & 0x7fffffff)}
		f.message, f.hint = d.string(), d.string()
		o.failure = f
		return o, d.done()
	}
	n := d.count(6)
	o.objects = make([]unit.Object, 0, n)
	for range n {
		var obj unit.Object
		obj.Ref.Group, obj.Ref.Version, obj.Ref.Kind = d.string(), d.string(), d.string()
		obj.Ref.Namespace, obj.Ref.Name = d.string(), d.string()
		obj.JSON = d.bytes()
		o.objects = append(o.objects, obj)
	}
	return o, d.done()
}

func (e *encoder) reads(r unit.ReadSet) {
	e.uint(uint64(len(r.Paths)))
	for _, p := range slices.Sorted(maps.Keys(r.Paths)) {
		read := r.Paths[p]
		e.string(p)
		e.uint(uint64(read.Kind))
		e.uint(uint64(read.Mode))
		e.bytes(read.Hash[:])
	}
	e.labels(r.Labels)
	e.strings(r.Absent)
	e.string(r.Cluster)
	e.string(r.Renderer)
}

func (d *decoder) reads() unit.ReadSet {
	n := d.count(hashSize + 4)
	r := unit.ReadSet{Paths: make(map[string]unit.Read, n)}
	for range n {
		p := d.string()
		r.Paths[p] = unit.Read{Kind: unit.ReadKind(d.uint()), Mode: unit.Mode(d.uint()), Hash: d.hash()}
	}
	r.Labels, r.Absent = d.labels(), d.strings()
	r.Cluster, r.Renderer = d.string(), d.string()
	return r
}

func (e *encoder) labels(m map[string]string) {
	e.uint(uint64(len(m)))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		e.string(k)
		e.string(m[k])
	}
}

func (d *decoder) labels() map[string]string {
	n := d.count(2)
	if n == 0 {
		return nil
	}
	m := make(map[string]string, n)
	for range n {
		k := d.string()
		m[k] = d.string()
	}
	return m
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
