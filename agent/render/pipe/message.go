package pipe

import (
	"maps"
	"slices"

	"github.com/capstan-gitops/capstan/agent/unit"
)

// Setup is the first frame to a worker.
type Setup struct{ Memory uint64 } // bytes it may use

// Encode writes the frame's body.
func (s Setup) Encode() []byte {
	var e encoder
	e.uint(s.Memory)
	return e.b
}

// DecodeSetup reads what Encode wrote.
func DecodeSetup(b []byte) (Setup, error) {
	d := decoder{b: b}
	s := Setup{Memory: d.uint()}
	return s, d.done()
}

// Hello is a worker's answer to Setup.
type Hello struct {
	Unconfined string // why it runs without a system call filter; "": it has one
	Renderer   string // its Version: another one's objects are not to be trusted to be the same
}

// Encode writes the frame's body.
func (h Hello) Encode() []byte {
	var e encoder
	e.string(h.Unconfined)
	e.string(h.Renderer)
	return e.b
}

// DecodeHello reads what Encode wrote.
func DecodeHello(b []byte) (Hello, error) {
	d := decoder{b: b}
	h := Hello{Unconfined: d.string(), Renderer: d.string()}
	return h, d.done()
}

// Job is one render.
type Job struct {
	Root  unit.Hash
	Path  string // maybe a template
	Facts unit.Facts
	// Decrypt says that files which SOPS encrypted are decrypted, and that the
	// parent answers for their keys.
	Decrypt bool

	Directory *unit.Directory // nil: what is in the path decides
	Release   unit.Release
	Helm      *unit.Helm // nil: what is in the path decides
}

// Encode writes the frame's body.
func (j Job) Encode() []byte {
	var e encoder
	e.bytes(j.Root[:])
	e.string(j.Path)
	e.string(j.Facts.Cluster)
	e.labels(j.Facts.Labels)
	e.string(j.Facts.Kubernetes)
	e.string(j.Facts.Values)
	e.bool(j.Decrypt)
	e.string(j.Release.Name)
	e.string(j.Release.Namespace)
	e.bool(j.Directory != nil)
	if j.Directory != nil {
		e.bool(j.Directory.Recurse)
		e.strings(j.Directory.Include)
		e.strings(j.Directory.Exclude)
	}
	e.bool(j.Helm != nil)
	if j.Helm != nil {
		e.helm(*j.Helm)
	}
	return e.b
}

// DecodeJob reads what Encode wrote.
func DecodeJob(b []byte) (Job, error) {
	d := decoder{b: b}
	j := Job{Root: d.hash(), Path: d.string()}
	j.Facts = unit.Facts{Cluster: d.string(), Labels: d.labels(), Kubernetes: d.string(), Values: d.string()}
	j.Decrypt = d.bool()
	j.Release = unit.Release{Name: d.string(), Namespace: d.string()}
	if d.bool() {
		j.Directory = &unit.Directory{Recurse: d.bool(), Include: d.strings(), Exclude: d.strings()}
	}
	if d.bool() {
		j.Helm = d.helm()
	}
	return j, d.done()
}

// Outcome is what a job gave. Failure is nil where it worked.
type Outcome struct {
	Path    string // the job's, with its template filled in
	Reads   unit.ReadSet
	Objects []unit.Object
	Failure *Failure
}

// Failure is a render that went wrong through what the repository holds.
type Failure struct {
	File, Message, Hint string
	Line                int // 0: not known
	// Again: it may go well without a change to anything that was read.
	Again bool
}

// Encode writes the frame's body.
func (o Outcome) Encode() []byte {
	var e encoder
	e.string(o.Path)
	e.reads(o.Reads)
	if f := o.Failure; f != nil {
		e.uint(1)
		e.string(f.File)
		e.uint(uint64(f.Line))
		e.string(f.Message)
		e.string(f.Hint)
		e.bool(f.Again)
		return e.b
	}
	e.uint(0)
	e.uint(uint64(len(o.Objects)))
	for _, obj := range o.Objects {
		r := obj.Ref
		e.string(r.Group)
		e.string(r.Version)
		e.string(r.Kind)
		e.string(r.Namespace)
		e.string(r.Name)
		e.bytes(obj.JSON)
		e.strings(obj.Masked)
	}
	return e.b
}

// DecodeOutcome reads what Encode wrote. A worker may have been taken over by
// what it rendered: nothing in it is believed.
func DecodeOutcome(b []byte) (Outcome, error) {
	d := decoder{b: b}
	o := Outcome{Path: d.string(), Reads: d.reads()}
	if d.uint() == 1 {
		f := &Failure{File: d.string(), Line: int(d.uint() & 0x7fffffff)}
		f.Message, f.Hint, f.Again = d.string(), d.string(), d.bool()
		o.Failure = f
		return o, d.done()
	}
	n := d.count(7)
	o.Objects = make([]unit.Object, 0, n)
	for range n {
		var obj unit.Object
		obj.Ref.Group, obj.Ref.Version, obj.Ref.Kind = d.string(), d.string(), d.string()
		obj.Ref.Namespace, obj.Ref.Name = d.string(), d.string()
		obj.JSON, obj.Masked = d.bytes(), d.strings()
		o.Objects = append(o.Objects, obj)
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
	e.string(r.Kubernetes)
	e.string(r.Values)
	e.labels(r.Charts)
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
	r.Kubernetes, r.Values, r.Charts = d.string(), d.string(), d.labels()
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
