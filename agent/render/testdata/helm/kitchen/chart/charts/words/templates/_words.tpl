{{- define "words.hello" }}hello {{ .Values.global.domain }}{{ end }}
{{- define "words.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}
