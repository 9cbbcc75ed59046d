{{- define "mailbox-collector.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "mailbox-collector.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "mailbox-collector.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "mailbox-collector.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "mailbox-collector.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "mailbox-collector.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.create is false: name yours in serviceAccount.name" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "mailbox-collector.claim" -}}
{{- default (printf "%s-mail" (include "mailbox-collector.fullname" . | trunc 58)) .Values.fileSink.existingClaim }}
{{- end }}

{{- define "mailbox-collector.selector" -}}
app.kubernetes.io/name: {{ include "mailbox-collector.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mailbox-collector.labels" -}}
{{ include "mailbox-collector.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What the operator may do, the same in a ClusterRole and in each namespace's Role. Secrets: only get, one at a time, never a list. */}}
{{- define "mailbox-collector.rules" -}}
- apiGroups: [mailbox-collector.io]
  resources: [mailboxcollectors, appregistrations]
  verbs: [get, list, watch]
- apiGroups: [mailbox-collector.io]
  resources: [mailboxcollectors/status, appregistrations/status]
  verbs: [patch]
- apiGroups: [mailbox-collector.io]
  resources: [mailboxcursors]
  verbs: [get, create, update]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
{{- if .Values.workloadIdentity.enabled }}
- apiGroups: [""]
  resources: [serviceaccounts/token]
  verbs: [create]
{{- end }}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
