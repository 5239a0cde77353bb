package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/capstan-gitops/capstan/pkg/client"
)

type object = map[string]any

// describe makes the OpenAPI 3.1 document of routes.
func describe(routes []route) ([]byte, error) {
	d := &describer{schemas: object{}}
	paths := object{}
	for _, rt := range routes {
		at, ok := paths[rt.path].(object)
		if !ok {
			at = object{}
			paths[rt.path] = at
		}
		at[strings.ToLower(rt.method)] = d.operation(rt)
	}
	return encode(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Capstan hub", "version": "v1",
			"description": "What a hub can be asked. Lists come in pages where limit is given; errors are problem details (RFC 9457); " +
				"answers to GET carry an ETag, which If-None-Match takes.",
			"license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
		},
		"paths":    paths,
		"security": []any{object{"bearer": []any{}}},
		"components": object{
			"securitySchemes": object{"bearer": object{"type": "http", "scheme": "bearer"}},
			"schemas":         d.schemas,
			"responses": object{"problem": object{
				"description": "What could not be done, and what to do about it.",
				"content":     object{client.ProblemType: object{"schema": d.schema(reflect.TypeFor[client.Problem]())}},
			}},
		},
	})
}

type describer struct{ schemas object }

func (d *describer) operation(rt route) object {
	op := object{"summary": rt.does, "operationId": operationID(rt), "responses": object{
		strconv.Itoa(rt.status()): d.answer(rt),
		"default":                 object{"$ref": "#/components/responses/problem"},
	}}
	if rt.open {
		op["security"] = []any{}
	}
	if params := d.parameters(rt); len(params) > 0 {
		op["parameters"] = params
	}
	if rt.in != nil {
		op["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": d.schema(reflect.TypeOf(rt.in))}}}
	}
	return op
}

func (d *describer) answer(rt route) object {
	switch {
	case rt.stream != nil:
		return object{"description": "Events named change, each with the version of the view as its id.", "content": object{"text/event-stream": object{}}}
	case rt.out == nil:
		return object{"description": "Done."}
	}
	out := object{"description": "The answer.", "content": object{"application/json": object{"schema": d.schema(reflect.TypeOf(rt.out))}}}
	if rt.method == http.MethodGet {
		out["headers"] = object{"ETag": object{"schema": object{"type": "string"}}}
	}
	return out
}

func (rt route) status() int {
	if rt.out == nil && rt.stream == nil {
		return http.StatusNoContent
	}
	return http.StatusOK
}

func (d *describer) parameters(rt route) []any {
	var out []any
	for part := range strings.SplitSeq(rt.path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			out = append(out, object{"name": strings.TrimSuffix(name, "}"), "in": "path", "required": true, "schema": object{"type": "string"}})
		}
	}
	for _, p := range rt.query {
		schema := object{"type": "string"}
		switch p.kind {
		case "":
		case "date-time":
			schema["format"] = p.kind
		default:
			schema["type"] = p.kind
		}
		if p.many {
			schema = object{"type": "array", "items": schema}
		}
		out = append(out, object{"name": p.name, "in": "query", "description": p.does, "schema": schema})
	}
	if rt.stream != nil {
		out = append(out, object{"name": "Last-Event-ID", "in": "header", "description": "the version last heard of", "schema": object{"type": "string"}})
	}
	return out
}

// operationID names an operation after its method and path: getClusters.
func operationID(rt route) string {
	var id strings.Builder
	id.WriteString(strings.ToLower(rt.method))
	for part := range strings.SplitSeq(strings.TrimPrefix(strings.TrimPrefix(rt.path, client.Prefix), "/api"), "/") {
		part = strings.TrimSuffix(strings.Trim(part, "{}"), ".json")
		if part != "" {
			id.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return id.String()
}

// schema is a type's as encoding/json writes it. Structs of the domain are
// named, and referred to.
func (d *describer) schema(t reflect.Type) object {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[json.RawMessage]():
		return object{}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return object{"anyOf": []any{d.schema(t.Elem()), object{"type": "null"}}}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return object{"type": "integer"}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return object{"type": "string", "contentEncoding": "base64"}
		}
		return object{"type": []any{"array", "null"}, "items": d.schema(t.Elem())}
	case reflect.Map:
		out := object{"type": []any{"object", "null"}}
		if t.Elem().Kind() != reflect.Interface {
			out["additionalProperties"] = d.schema(t.Elem())
		}
		return out
	case reflect.Struct:
		return d.structure(t)
	}
	return object{"type": "string"}
}

func (d *describer) structure(t reflect.Type) object {
	name := schemaName(t)
	if _, done := d.schemas[name]; done && name != "" {
		return object{"$ref": "#/components/schemas/" + name}
	}
	out := object{"type": "object"}
	if name != "" {
		d.schemas[name] = out // before its fields, which may lead back here
	}
	properties, required := object{}, []any{}
	for _, f := range jsonFields(t) {
		properties[f.name] = d.schema(f.kind)
		if !f.optional {
			required = append(required, f.name)
		}
	}
	if len(properties) > 0 {
		out["properties"] = properties
	}
	if len(required) > 0 && !strings.HasSuffix(name, "List") && t != reflect.TypeFor[push]() {
		out["required"] = required
	}
	if name == "" {
		return out
	}
	return object{"$ref": "#/components/schemas/" + name}
}

// schemaName: List[fleet.Cluster] is ClusterList. What has no name is written
// where it is used.
func schemaName(t reflect.Type) string {
	name := t.Name()
	if of, ok := strings.CutPrefix(name, "List["); ok {
		of = strings.TrimSuffix(of, "]")
		return of[strings.LastIndex(of, ".")+1:] + "List"
	}
	if name == "" {
		return ""
	}
	return strings.ToUpper(name[:1]) + name[1:]
}
