#!/bin/sh
# foggycam's own path, brought up to date: the image from a registry, the secrets as files that only
# the container sees, the storage account reached by a SAS that may do nothing but add blobs.
# main.bicep does the same without any secret in the container; take that one where you can.
#
# usage: container_instances.sh GROUP STORAGE_ACCOUNT    beside it: camsink.jsonc, nest_token
set -eu
group=$1 storage=$2
here=$(dirname "$0")

az group create --name "$group" --location "${LOCATION:-westeurope}" --output none
az storage account create --name "$storage" --resource-group "$group" --sku Standard_LRS \
  --allow-blob-public-access false --min-tls-version TLS1_2 --output none
az storage container create --name clips --account-name "$storage" --auth-mode login --output none

# A year is the longest that is sensible; camsink warns 14 days before it ends.
sas=$(az storage container generate-sas --name clips --account-name "$storage" --permissions c \
  --expiry "$(date -u -d '+1 year' +%Y-%m-%dT%H:%MZ)" --https-only --output tsv)

# In a file that is removed, so that the secrets are in no process list; read by az, not by the shell.
spec=$(mktemp)
trap 'rm -f "$spec"' EXIT
chmod 600 "$spec"
secret() { printf '%s' "$1" | base64 -w0; }
cat >"$spec" <<YAML
apiVersion: 2023-05-01
name: camsink
location: ${LOCATION:-westeurope}
type: Microsoft.ContainerInstance/containerGroups
properties:
  osType: Linux
  restartPolicy: Always
  containers:
    - name: camsink
      properties:
        image: ${IMAGE:-ghcr.io/OWNER/camsink:2}
        resources: { requests: { cpu: 1, memoryInGB: 2 } }
        volumeMounts:
          - { name: config, mountPath: /etc/camsink, readOnly: true }
          - { name: secrets, mountPath: /run/secrets, readOnly: true }
          - { name: spool, mountPath: /data }
  volumes:
    - name: config
      secret: { camsink.jsonc: $(base64 -w0 <"$here/../compose/camsink.jsonc") }
    - name: secrets
      secret: { nest_token: $(base64 -w0 <nest_token), azure_sas: $(secret "$sas") }
    - name: spool
      emptyDir: {}
YAML
az container create --resource-group "$group" --file "$spec" --output none
echo "It records. Look: az container logs --resource-group $group --name camsink --follow"
