package pipe

import "github.com/capstan-gitops/capstan/agent/unit"

func (e *encoder) helm(h unit.Helm) {
	e.string(h.ReleaseName)
	e.bytes(h.Values)
	e.strings(h.ValuesFiles)
	e.uint(uint64(len(h.ValuesFrom)))
	for _, v := range h.ValuesFrom {
		e.string(v.From)
		e.bytes(v.Content)
	}
	e.bool(h.SkipCRDs)
	e.string(string(h.Hooks))
	e.strings(h.APIVersions)
	e.bool(h.Chart != nil)
	if c := h.Chart; c != nil {
		e.strings([]string{c.Repository, c.Name, c.Version, c.Digest})
	}
}

func (d *decoder) helm() *unit.Helm {
	h := &unit.Helm{ReleaseName: d.string(), Values: some(d.bytes()), ValuesFiles: d.strings()}
	n := d.count(2)
	for range n {
		h.ValuesFrom = append(h.ValuesFrom, unit.ValuesDocument{From: d.string(), Content: some(d.bytes())})
	}
	h.SkipCRDs, h.Hooks, h.APIVersions = d.bool(), unit.Hooks(d.string()), d.strings()
	if !d.bool() {
		return h
	}
	c := d.strings()
	if len(c) != 4 {
		d.fail()
		return h
	}
	h.Chart = &unit.Chart{Repository: c[0], Name: c[1], Version: c[2], Digest: c[3]}
	return h
}

// some is nil for nothing.
func some(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}
