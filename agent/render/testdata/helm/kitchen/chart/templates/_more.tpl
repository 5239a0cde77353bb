{{- define "kitchen.more" }}{{ fail "nobody includes this" }}{{ end }}
