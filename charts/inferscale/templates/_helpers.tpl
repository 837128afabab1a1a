{{- define "inferscale.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "inferscale.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "inferscale.fullname" .) -}}
{{- end -}}

{{- define "inferscale.selectorLabels" -}}
app.kubernetes.io/name: inferscale
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "inferscale.labels" -}}
{{ include "inferscale.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "inferscale.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* Whether a kind of another project is wanted: auto, when the cluster has it. */ -}}
{{- define "inferscale.wanted" -}}
{{- $enabled := toString .enabled -}}
{{- if eq $enabled "auto" -}}
{{- if .root.Capabilities.APIVersions.Has "monitoring.coreos.com/v1" -}}true{{- end -}}
{{- else if eq $enabled "true" -}}true{{- end -}}
{{- end -}}

{{- define "inferscale.podSecurityContext" -}}
runAsNonRoot: {{ .Values.podSecurityContext.runAsNonRoot }}
{{- range $key := list "runAsUser" "runAsGroup" "fsGroup" }}
{{- $value := index $.Values.podSecurityContext $key }}
{{- if not (kindIs "invalid" $value) }}
{{ $key }}: {{ $value | int64 }}
{{- end }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "inferscale.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* Key and value of a label written key=value. */ -}}
{{- define "inferscale.labelKey" -}}{{ (splitList "=" .) | first }}{{- end -}}
{{- define "inferscale.labelValue" -}}{{ (splitList "=" .) | rest | join "=" }}{{- end -}}

{{- /* What the operator may write, in the whole cluster or in the namespaces of a list. */ -}}
{{- define "inferscale.writeRules" -}}
- apiGroups: [apps]
  resources: [deployments]
  verbs: [patch]
- apiGroups: [inferscale.dev]
  resources: [inferenceallocations]
  verbs: [create, patch]
- apiGroups: [inferscale.dev]
  resources: [inferenceservices/status, inferenceallocations/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end -}}

{{- /* What it reads where the services are. */ -}}
{{- define "inferscale.readRules" -}}
- apiGroups: [inferscale.dev]
  resources: [inferenceservices, inferenceallocations]
  verbs: [list, watch]
- apiGroups: [apps]
  resources: [deployments, replicasets]
  verbs: [list, watch]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list, watch]
{{- /* Without reading pods in the whole cluster, those of the services. */ -}}
{{- if not .Values.scope.readPods }}
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
{{- end }}
{{- end -}}

{{- /* Settings of the operator, as environment variables. */ -}}
{{- define "inferscale.env" -}}
- name: INFERSCALE_PROMETHEUS_URL
  value: {{ .Values.prometheus.url | quote }}
- name: INFERSCALE_PROMETHEUS_TIMEOUT_SECONDS
  value: {{ .Values.prometheus.timeoutSeconds | quote }}
{{- with .Values.prometheus.headers }}
- name: INFERSCALE_PROMETHEUS_HEADERS
  value: {{ include "inferscale.headers" . | quote }}
{{- end }}
{{- with .Values.prometheus.serverName }}
- name: INFERSCALE_PROMETHEUS_SERVER_NAME
  value: {{ . | quote }}
{{- end }}
{{- if or .Values.prometheus.ca.configMap .Values.prometheus.ca.secret }}
- name: INFERSCALE_PROMETHEUS_CA_FILE
  value: /etc/inferscale/ca/{{ .Values.prometheus.ca.key }}
{{- end }}
{{- if .Values.prometheus.token.serviceAccount }}
- name: INFERSCALE_PROMETHEUS_TOKEN_FILE
  value: /var/run/secrets/kubernetes.io/serviceaccount/token
{{- else if .Values.prometheus.token.secret }}
- name: INFERSCALE_PROMETHEUS_TOKEN_FILE
  value: /etc/inferscale/token/{{ .Values.prometheus.token.key }}
{{- end }}
{{- if .Values.prometheus.clientCertificate.secret }}
- name: INFERSCALE_PROMETHEUS_CERTIFICATE_FILE
  value: /etc/inferscale/client/tls.crt
- name: INFERSCALE_PROMETHEUS_KEY_FILE
  value: /etc/inferscale/client/tls.key
{{- end }}
{{- with .Values.scope.namespaces }}
- name: INFERSCALE_NAMESPACES
  value: {{ join " " . | quote }}
{{- end }}
{{- with .Values.scope.namespaceLabel }}
- name: INFERSCALE_NAMESPACE_LABEL
  value: {{ . | quote }}
{{- end }}
{{- if not .Values.scope.readPods }}
- name: INFERSCALE_READ_PODS
  value: "false"
{{- end }}
- name: INFERSCALE_LEADER_ELECT
  value: "true"
- name: INFERSCALE_LEASE_NAMESPACE
  value: {{ .Release.Namespace }}
- name: INFERSCALE_LEASE_NAME
  value: {{ include "inferscale.fullname" . }}
- name: INFERSCALE_LOG_FORMAT
  value: {{ .Values.log.format | quote }}
- name: INFERSCALE_LOG_LEVEL
  value: {{ .Values.log.level | quote }}
{{- end -}}

{{- define "inferscale.headers" -}}
{{- $pairs := list -}}
{{- range $name, $value := . -}}
{{- $pairs = append $pairs (printf "%s=%s" $name $value) -}}
{{- end -}}
{{- join " " $pairs -}}
{{- end -}}

{{- define "inferscale.volumeMounts" -}}
{{- if or .Values.prometheus.ca.configMap .Values.prometheus.ca.secret }}
- name: ca
  mountPath: /etc/inferscale/ca
  readOnly: true
{{- end }}
{{- if and .Values.prometheus.token.secret (not .Values.prometheus.token.serviceAccount) }}
- name: token
  mountPath: /etc/inferscale/token
  readOnly: true
{{- end }}
{{- if .Values.prometheus.clientCertificate.secret }}
- name: client
  mountPath: /etc/inferscale/client
  readOnly: true
{{- end }}
{{- end -}}

{{- define "inferscale.volumes" -}}
{{- if .Values.prometheus.ca.configMap }}
- name: ca
  configMap:
    name: {{ .Values.prometheus.ca.configMap }}
{{- else if .Values.prometheus.ca.secret }}
- name: ca
  secret:
    secretName: {{ .Values.prometheus.ca.secret }}
{{- end }}
{{- if and .Values.prometheus.token.secret (not .Values.prometheus.token.serviceAccount) }}
- name: token
  secret:
    secretName: {{ .Values.prometheus.token.secret }}
{{- end }}
{{- if .Values.prometheus.clientCertificate.secret }}
- name: client
  secret:
    secretName: {{ .Values.prometheus.clientCertificate.secret }}
{{- end }}
{{- end -}}
