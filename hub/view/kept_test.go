package view_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/capstan-gitops/capstan/hub/view"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// Whatever an agent reports is shown, also what a status learns to say later.
func TestNothingOfAStatusIsLost(t *testing.T) {
	var s fleet.AppStatus
	fill(reflect.ValueOf(&s).Elem())
	s.Cluster, s.Stale = "dev", false // the hub's own to say
	for i := range s.Holds {
		s.Holds[i].Asked, s.Holds[i].Ending = false, false // likewise
	}
	v := view.New()
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	v.Heard("dev", fleet.ClusterReport{}, now)
	v.Reported("dev", s)
	apps, err := v.Apps(fleet.AppFilter{}, now)
	if err != nil || len(apps) != 1 {
		t.Fatal(apps, err)
	}
	if !reflect.DeepEqual(apps[0], s) {
		t.Errorf("got  %+v\nwant %+v", apps[0], s)
	}
}

// fill gives every field a value that is not its zero one.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i))
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)))
			return
		}
		for _, field := range v.Fields() {
			fill(field)
		}
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint64:
		v.SetUint(7)
	}
}
