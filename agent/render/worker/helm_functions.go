package worker

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	gotemplate "text/template"
	"time"
	_ "time/tzdata" // a worker opens no files

	"github.com/Masterminds/sprig/v3"
)

// functions are the words of templates that do not give the same twice, with a
// note of which of them a chart used.
type functions struct {
	table    gotemplate.FuncMap
	unsteady map[string]bool
	now      func() time.Time
}

// drawn are sprig's functions that draw lots.
var drawn = []string{
	"randAlphaNum", "randAlpha", "randAscii", "randNumeric", "randBytes", "randInt", "shuffle", "uuidv4",
	"genPrivateKey", "genCA", "genCAWithKey", "genSelfSignedCert", "genSelfSignedCertWithKey", "genSignedCert", "genSignedCertWithKey",
	"htpasswd", "bcrypt", "encryptAES",
}

// dated are those that take the present time for what is no date, and where
// their date stands.
var dated = map[string]int{"date": 1, "dateInZone": 1, "date_in_zone": 1, "htmlDate": 0, "htmlDateInZone": 0, "ago": 0}

func newFunctions() *functions {
	f := &functions{table: gotemplate.FuncMap{}, unsteady: map[string]bool{}, now: time.Now}
	all := sprig.TxtFuncMap()
	for _, name := range drawn {
		f.table[name] = f.noting(name, all[name])
	}
	for name, i := range dated {
		f.table[name] = f.dating(name, all[name], i)
	}
	f.table["now"] = func() time.Time { return f.present("now") }
	f.table["ago"] = func(date any) string { return f.present("ago").Sub(asTime(date, f.now())).Round(time.Second).String() }
	f.table["durationRound"] = f.roundingFrom(all["durationRound"])
	// Sprig leaves the order of a map's keys to chance.
	f.table["keys"] = sortedKeys
	f.table["values"] = sortedValues
	return f
}

func (f *functions) used() string {
	return strings.Join(slices.Sorted(maps.Keys(f.unsteady)), ", ")
}

// later has the clock show another second, minute, hour, day, month and year.
func (f *functions) later() {
	f.now = func() time.Time { return time.Now().Add((400*24+1)*time.Hour + time.Minute + time.Second) }
}

func (f *functions) present(name string) time.Time {
	f.unsteady[name] = true
	return f.now()
}

// noting wraps a function so that its use is known.
func (f *functions) noting(name string, fn any) any {
	v := reflect.ValueOf(fn)
	return reflect.MakeFunc(v.Type(), func(args []reflect.Value) []reflect.Value {
		f.unsteady[name] = true
		if v.Type().IsVariadic() {
			return v.CallSlice(args)
		}
		return v.Call(args)
	}).Interface()
}

// dating gives a function the present time for an argument that is no date.
func (f *functions) dating(name string, fn any, i int) any {
	v := reflect.ValueOf(fn)
	return reflect.MakeFunc(v.Type(), func(args []reflect.Value) []reflect.Value {
		if !isDate(args[i].Interface()) {
			args[i] = reflect.ValueOf(new(any)).Elem()
			args[i].Set(reflect.ValueOf(f.present(name)))
		}
		return v.Call(args)
	}).Interface()
}

// roundingFrom is durationRound, which for a time means: since then.
func (f *functions) roundingFrom(fn any) any {
	round := fn.(func(any) string)
	return func(duration any) string {
		if t, ok := duration.(time.Time); ok {
			duration = int64(f.present("durationRound").Sub(t))
		}
		return round(duration)
	}
}

func isDate(v any) bool {
	switch v.(type) {
	case time.Time, *time.Time, int64, int, int32:
		return true
	}
	return false
}

func asTime(v any, now time.Time) time.Time {
	switch d := v.(type) {
	case time.Time:
		return d
	case int64:
		return time.Unix(d, 0)
	case int:
		return time.Unix(int64(d), 0)
	}
	return now
}

func sortedKeys(dicts ...map[string]any) []string {
	all := []string{}
	for _, d := range dicts {
		all = append(all, slices.Sorted(maps.Keys(d))...)
	}
	return all
}

func sortedValues(dict map[string]any) []any {
	all := []any{}
	for _, key := range slices.Sorted(maps.Keys(dict)) {
		all = append(all, dict[key])
	}
	return all
}
