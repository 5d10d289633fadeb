// Camsink in Azure: a storage account whose clips expire, a Key Vault for the camera's secrets, an
// identity that may use both, and the container in Container Instances. No port is opened, and no
// secret is in this file, in the container or in its variables.
//
//   az group create -n camsink -l westeurope
//   az deployment group create -g camsink -f main.bicep -p config=@camsink.jsonc
//
// Then put the secrets into the vault (outputs.vault tells its name) and restart the container:
//
//   az keyvault secret set --vault-name VAULT -n nest-issue-token -f issue_token.txt
//   az keyvault secret set --vault-name VAULT -n nest-cookie -f cookie.txt

@description('Where everything is.')
param location string = resourceGroup().location

@description('Goes into every name; short, small letters and digits.')
@minLength(3)
@maxLength(9)
param name string = 'camsink'

@description('The image. The slim one encodes inside the process.')
param image string = 'ghcr.io/OWNER/camsink:2'

@description('The text of camsink.jsonc; VAULT and STORAGE in it are replaced by the names made here.')
param config string

@description('Clips are deleted after so many days.')
@minValue(1)
param keepDays int = 30

@description('Who may put secrets into the vault: the object id of a user or group; empty: nobody yet.')
param secretsOfficer string = ''

@description('Cores; one is enough for about four cameras of 1280x720 that give JPEGs.')
param cpu int = 1

param memoryGb int = 2

var suffix = uniqueString(resourceGroup().id)
var storageName = '${name}${suffix}'
var vaultName = '${name}-${take(suffix, 13)}'

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${name}-identity'
  location: location
}

resource storage 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: storageName
  location: location
  kind: 'StorageV2'
  sku: { name: 'Standard_LRS' }
  properties: {
    accessTier: 'Cool'
    allowBlobPublicAccess: false
    allowSharedKeyAccess: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' = {
  parent: storage
  name: 'default'
}

resource clips 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: blobs
  name: 'clips'
}

resource lifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2023-05-01' = {
  parent: storage
  name: 'default'
  properties: {
    policy: {
      rules: [
        {
          enabled: true
          name: 'delete-old-clips'
          type: 'Lifecycle'
          definition: {
            filters: { blobTypes: ['blockBlob'], prefixMatch: ['clips/'] }
            actions: { baseBlob: { delete: { daysAfterModificationGreaterThan: keepDays } } }
          }
        }
      ]
    }
  }
}

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' = {
  name: vaultName
  location: location
  properties: {
    tenantId: subscription().tenantId
    sku: { family: 'A', name: 'standard' }
    enableRbacAuthorization: true
    enableSoftDelete: true
  }
}

// Storage Blob Data Contributor: the container writes clips, and `verify` reads their properties.
resource mayStore 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: storage
  name: guid(storage.id, identity.id, 'store')
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'ba92f5b4-2d11-453d-a403-e96b0029c9fe')
  }
}

// Key Vault Secrets User: reads secrets, no more.
resource mayReadSecrets 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: vault
  name: guid(vault.id, identity.id, 'read')
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '4633458b-17de-408a-b874-0445c86b69e6')
  }
}

// Key Vault Secrets Officer: for whoever puts the secrets in.
resource mayWriteSecrets 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (secretsOfficer != '') {
  scope: vault
  name: guid(vault.id, secretsOfficer, 'write')
  properties: {
    principalId: secretsOfficer
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7')
  }
}

resource camsink 'Microsoft.ContainerInstance/containerGroups@2023-05-01' = {
  name: name
  location: location
  identity: { type: 'UserAssigned', userAssignedIdentities: { '${identity.id}': {} } }
  dependsOn: [mayStore, mayReadSecrets]
  properties: {
    osType: 'Linux'
    restartPolicy: 'Always'
    containers: [
      {
        name: 'camsink'
        properties: {
          image: image
          resources: { requests: { cpu: cpu, memoryInGB: memoryGb } }
          environmentVariables: [{ name: 'AZURE_CLIENT_ID', value: identity.properties.clientId }]
          volumeMounts: [
            { name: 'config', mountPath: '/etc/camsink', readOnly: true }
            { name: 'spool', mountPath: '/data' }
          ]
        }
      }
    ]
    volumes: [
      {
        name: 'config'
        secret: {
          'camsink.jsonc': base64(replace(replace(config, 'VAULT', vaultName), 'STORAGE', storageName))
        }
      }
      // Lives as long as the group: enough for an outage of the storage, not for a move to another host.
      { name: 'spool', emptyDir: {} }
    ]
  }
}

output storage string = storageName
output vault string = vaultName
output clientId string = identity.properties.clientId
