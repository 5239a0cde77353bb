package soak_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// next makes the next revision.
func (w *world) next() {
	w.did = nil
	w.change() // so that there is always one
	ways := []struct {
		often int
		do    func()
	}{
		{5, w.add},
		{5, w.change},
		{5, w.remove},
		{3, w.rename},
		{4, w.move},
		{3, w.recreate},
		{2, w.shift},
		{1, func() { w.root.text = w.say("the root's own object changes") }},
		{2, w.toggle},
		{1, w.addApp},
		{1, w.removeApp},
		{1, w.addNamespace},
		{1, w.addCRD},
		{1, w.removeHolder},
	}
	var all []func()
	for _, way := range ways {
		for range way.often {
			all = append(all, way.do)
		}
	}
	for range 1 + w.random.IntN(5) {
		pick(w.random, all)()
	}
}

// say notes what was done, and gives a text that was not there before.
func (w *world) say(format string, args ...any) string {
	w.did = append(w.did, fmt.Sprintf(format, args...))
	w.count++
	return fmt.Sprintf("text %d", w.count)
}

// app is one of them; nil where there is none.
func (w *world) app(that func(*wantedApp) bool) *wantedApp {
	var all []*wantedApp
	for _, name := range slices.Sorted(maps.Keys(w.apps)) {
		if a := w.apps[name]; that == nil || that(a) {
			all = append(all, a)
		}
	}
	return pick(w.random, all)
}

// one is an object of an app.
func (w *world) one(a *wantedApp, that func(object) bool) (object, bool) {
	if a == nil {
		return object{}, false
	}
	var all []object
	for _, ref := range slices.SortedFunc(maps.Keys(a.objects), fleet.ObjectRef.Compare) {
		if o := a.objects[ref]; that(o) {
			all = append(all, o)
		}
	}
	o := pick(w.random, all)
	return o, len(all) > 0
}

func pick[T any](random *rand.Rand, all []T) (none T) {
	if len(all) == 0 {
		return none
	}
	return all[random.IntN(len(all))]
}

func plain(o object) bool { return !o.holds() && o.within() == "" }

func (w *world) isFree(ref fleet.ObjectRef) bool {
	for _, a := range w.apps {
		if _, taken := a.objects[ref]; taken {
			return false
		}
	}
	return true
}

// fresh is an object whose name is free.
func (w *world) fresh() (object, bool) {
	var all []object
	for _, p := range pools {
		for i := range p.names {
			o := object{ref: p.ref, frozen: p.frozen, hook: p.hook}
			o.ref.Namespace, o.ref.Name = playground, fmt.Sprintf("%s-%02d", p.ref.Name, i)
			if w.isFree(o.ref) {
				for range p.often {
					all = append(all, o)
				}
			}
		}
	}
	return pick(w.random, all), len(all) > 0
}

func (w *world) add() {
	a := w.app(func(a *wantedApp) bool { return len(a.objects) < mostObjects })
	o, ok := w.fresh()
	if a == nil || !ok {
		return
	}
	if !o.frozen {
		o.wave = w.random.IntN(3) / 2 // mostly 0
	}
	o.text = w.say("%s gets %s", a.name, o.ref)
	a.objects[o.ref] = o
}

func (w *world) change() {
	here := w.wanted()
	a := w.app(func(a *wantedApp) bool { _, ok := here[a.name]; return ok })
	if o, ok := w.one(a, func(o object) bool { return !o.frozen }); ok {
		o.text = w.say("%s changes %s", a.name, o.ref)
		a.objects[o.ref] = o
		return
	}
	w.root.text = w.say("the root's own object changes")
}

func (w *world) recreate() {
	isFrozen := func(o object) bool { return o.frozen }
	a := w.app(func(a *wantedApp) bool { _, ok := w.one(a, isFrozen); return ok })
	if o, ok := w.one(a, isFrozen); ok {
		o.text = w.say("%s changes %s, which can't be changed", a.name, o.ref)
		a.objects[o.ref] = o
	}
}

func (w *world) shift() {
	a := w.app(nil)
	if o, ok := w.one(a, func(o object) bool { return plain(o) && !o.frozen }); ok {
		o.wave = 1 - o.wave
		o.text = w.say("%s has %s in wave %d", a.name, o.ref, o.wave)
		a.objects[o.ref] = o
	}
}

// spare tells apps that can do without an object: one that is empty is another story.
func spare(a *wantedApp) bool {
	n := 0
	for _, o := range a.objects {
		if plain(o) && !o.hook {
			n++
		}
	}
	return n > 1
}

func (w *world) remove() {
	a := w.app(spare)
	if o, ok := w.one(a, plain); ok {
		w.say("%s loses %s", a.name, o.ref)
		delete(a.objects, o.ref)
	}
}

func (w *world) rename() {
	a := w.app(nil)
	o, ok := w.one(a, plain)
	n, free := w.fresh()
	if !ok || !free {
		return
	}
	n.text = w.say("%s has %s in the place of %s", a.name, n.ref, o.ref)
	delete(a.objects, o.ref)
	a.objects[n.ref] = n
}

func (w *world) move() {
	from := w.app(spare)
	o, ok := w.one(from, plain)
	to := w.app(func(a *wantedApp) bool { return a != from })
	if !ok || to == nil {
		return
	}
	w.say("%s goes from %s to %s", o.ref, from.name, to.name)
	delete(from.objects, o.ref)
	to.objects[o.ref] = o
}

func (w *world) toggle() {
	w.ring = !w.ring
	w.say("the cluster's label is there: %t", w.ring)
}

func (w *world) addApp() {
	var free []string
	for _, name := range appNames {
		if w.apps[name] == nil {
			free = append(free, name)
		}
	}
	if len(w.apps) >= mostApps {
		return
	}
	a := &wantedApp{name: pick(w.random, free), ringed: w.random.IntN(3) == 0, objects: map[fleet.ObjectRef]object{}}
	for range 2 + w.random.IntN(4) {
		if o, ok := w.fresh(); ok {
			o.text = fmt.Sprintf("text %d", w.count)
			a.objects[o.ref] = o
			w.apps[a.name] = a // so that its names are taken
		}
	}
	if w.apps[a.name] != nil {
		w.say("app %s comes, only where the label is: %t", a.name, a.ringed)
	}
}

func (w *world) removeApp() {
	if a := w.app(nil); len(w.apps) > 2 {
		w.say("app %s goes", a.name)
		delete(w.apps, a.name)
	}
}

func (w *world) holders() int {
	n := 0
	for _, a := range w.apps {
		for _, o := range a.objects {
			if o.holds() {
				n++
			}
		}
	}
	return n
}

func (w *world) addNamespace() {
	a := w.app(nil)
	if w.holders() > 3 {
		return
	}
	name := fmt.Sprintf("own-%d", w.count)
	ns := object{ref: fleet.ObjectRef{Kind: "Namespace", Name: name}}
	ns.text = w.say("%s gets %s, with objects in it", a.name, ns.ref)
	a.objects[ns.ref] = ns
	for i := range 2 {
		o := object{ref: fleet.ObjectRef{Kind: "ConfigMap", Namespace: name, Name: fmt.Sprintf("item-%02d", i)}, text: ns.text}
		a.objects[o.ref] = o
	}
}

func (w *world) addCRD() {
	a := w.app(nil)
	if w.holders() > 3 {
		return
	}
	group := fmt.Sprintf("g%d.example.com", w.count)
	w.groups = append(w.groups, group)
	crd := object{ref: fleet.ObjectRef{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition", Name: "widgets." + group}}
	crd.text = w.say("%s gets %s, and objects of its kind", a.name, crd.ref)
	a.objects[crd.ref] = crd
	for i := range 2 {
		o := object{ref: fleet.ObjectRef{Group: group, Kind: "Widget", Namespace: playground, Name: fmt.Sprintf("widget-%d", i)}, text: crd.text}
		a.objects[o.ref] = o
	}
}

// removeHolder takes a Namespace or CRD away, with what is in it.
func (w *world) removeHolder() {
	a := w.app(func(a *wantedApp) bool { _, ok := w.one(a, object.holds); return ok })
	o, ok := w.one(a, object.holds)
	if !ok {
		return
	}
	w.say("%s loses %s, and what is in it", a.name, o.ref)
	delete(a.objects, o.ref)
	maps.DeleteFunc(a.objects, func(_ fleet.ObjectRef, in object) bool { return in.within() == o.ref.Name })
}
