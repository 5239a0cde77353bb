package v1alpha1

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	kjson "sigs.k8s.io/json"

	"github.com/capstan-gitops/capstan/pkg/fleet"
)

// DecodeApp reads an App as somebody wrote it in a repository (as JSON): strictly,
// with the defaults filled in as the API server would, and checked by Validate.
// A status in it is dropped. Errors are fleet.ErrInvalid, name the field, and
// mostly have a hint.
func DecodeApp(data []byte) (*App, error) {
	app := &App{}
	strict, err := kjson.UnmarshalStrict(data, app)
	if err != nil {
		return nil, fmt.Errorf("app: %w", wrongType(err))
	}
	if app.APIVersion != GroupVersion.String() || app.Kind != AppKind {
		return nil, fleet.WithHint(
			fleet.Invalid("app: apiVersion %q, kind %q is not an App", app.APIVersion, app.Kind),
			"write apiVersion: "+GroupVersion.String()+" and kind: "+AppKind)
	}
	if len(strict) > 0 {
		return nil, fmt.Errorf("app %s: %w", app.Name, wrongField(strict[0]))
	}
	app.Status = AppStatus{}
	app.Default()
	if err := app.Validate(); err != nil {
		return nil, fmt.Errorf("app %s: %w", app.Name, err)
	}
	return app, nil
}

// wrongType words an error of the decoder without Go's type names.
func wrongType(err error) error {
	var te *json.UnmarshalTypeError
	if !errors.As(err, &te) {
		return fleet.Invalid("%w", err)
	}
	field := te.Field
	if field == "" {
		field = "the document"
	}
	return fleet.Invalid("%s: wants %s, has %s", field, typeWord(te.Type), te.Value)
}

func typeWord(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Slice:
		return "a list"
	default:
		return "an object"
	}
}

// wrongField words a field that is unknown, or there twice.
func wrongField(err error) error {
	var fe kjson.FieldError
	if !errors.As(err, &fe) {
		return fleet.Invalid("%w", err)
	}
	path := fe.FieldPath()
	if strings.HasPrefix(err.Error(), "duplicate field") {
		return fleet.WithHint(fleet.Invalid("%s is there twice", path), "keep one of them")
	}
	parent, name := "", path
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		parent, name = path[:i], path[i+1:]
	}
	known := fieldsAt(reflect.TypeFor[App](), parent)
	if near := nearest(name, known); near != "" {
		return fleet.WithHint(fleet.Invalid("%s is not a known field", path), fmt.Sprintf("did you mean %q?", near))
	}
	if len(known) == 0 {
		return fleet.Invalid("%s is not a known field", path)
	}
	where := parent
	if where == "" {
		where = "an App"
	}
	return fleet.WithHint(fleet.Invalid("%s is not a known field", path), where+" has: "+strings.Join(known, ", "))
}
