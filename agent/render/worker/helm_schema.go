package worker

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
)

// schemaPlace is what a schema is called while it is compiled, as Helm calls it.
const schemaPlace = "file:///values.schema.json"

// noSchemas stands where a schema's references would be fetched from. Helm has a
// transport of its own, so its check is not used.
type noSchemas struct{ refused string }

// Load implements jsonschema.URLLoader.
func (n *noSchemas) Load(url string) (any, error) {
	if n.refused == "" {
		n.refused = url
	}
	return nil, fmt.Errorf("%s is not read", url)
}

// checkSchema holds a chart's values, and its subcharts', against their schemas.
func (c *inflation) checkSchema(ch *chart.Chart, values any) error {
	table, ok := asTable(values)
	if !ok {
		return c.fail("values of "+ch.Name(), fmt.Errorf("an object is wanted, and it is %T", values), "")
	}
	if len(ch.Schema) > 0 {
		if err := c.checkOneSchema(ch, table); err != nil {
			return err
		}
	}
	for _, sub := range ch.Dependencies() {
		below, there := table[sub.Name()]
		if !there || below == nil {
			continue
		}
		if err := c.checkSchema(sub, below); err != nil {
			return err
		}
	}
	return nil
}

func asTable(values any) (map[string]any, bool) {
	switch v := values.(type) {
	case map[string]any:
		return v, true
	case common.Values:
		return v, true
	}
	return nil, false
}

func (c *inflation) checkOneSchema(ch *chart.Chart, values map[string]any) error {
	file := c.fileOf(ch, strings.TrimPrefix(ch.ChartFullPath()+"/values.schema.json", "/"))
	bad := func(message, hint string) error {
		return &failure{file: file, message: file + ": " + message, hint: hint}
	}
	const mend = "mend the schema"
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(ch.Schema))
	if err != nil {
		return bad("not valid JSON: "+c.fs.oneLine(err.Error()), mend)
	}
	outside := &noSchemas{}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(outside)
	if err := compiler.AddResource(schemaPlace, schema); err != nil {
		return bad("not a schema: "+c.fs.oneLine(err.Error()), mend)
	}
	compiled, err := compiler.Compile(schemaPlace)
	switch {
	case outside.refused != "":
		return bad(fmt.Sprintf("%q: schemas outside the file are refused", withoutUser(strings.TrimPrefix(outside.refused, "file://"))), "write what it refers to into the schema, below $defs")
	case err != nil:
		return bad("not a schema: "+c.fs.oneLine(err.Error()), mend)
	}
	if err := compiled.Validate(map[string]any(values)); err != nil {
		text := strings.TrimPrefix(err.Error(), "jsonschema validation failed with '"+schemaPlace+"#'")
		return bad("the values are not as the chart wants them: "+c.fs.oneLine(text), "mend the values, or take another version of the chart")
	}
	return nil
}
