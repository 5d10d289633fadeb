// Camsink in Container Apps: one replica, always on, without ingress. The storage account, the vault
// and the identity are those of main.bicep.
//
//   az deployment group create -g camsink -f container_apps.bicep \
//     -p config=@camsink.jsonc identityName=camsink-identity
//
// The spool is on the replica's own disk: a restart of the container keeps it, a move of the replica
// does not, and clips that were not delivered by then are lost. A share would outlive a move, but the
// catalogue is a database in WAL mode, which shares over SMB cannot hold.

param location string = resourceGroup().location
param name string = 'camsink'
param image string = 'ghcr.io/OWNER/camsink:2'

@description('The text of camsink.jsonc, with VAULT and STORAGE replaced.')
@secure()
param config string

@description('The identity that main.bicep made.')
param identityName string = 'camsink-identity'

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' existing = {
  name: identityName
}

resource environment 'Microsoft.App/managedEnvironments@2024-03-01' = {
  name: '${name}-environment'
  location: location
  properties: {}
}

resource camsink 'Microsoft.App/containerApps@2024-03-01' = {
  name: name
  location: location
  identity: { type: 'UserAssigned', userAssignedIdentities: { '${identity.id}': {} } }
  properties: {
    environmentId: environment.id
    configuration: {
      activeRevisionsMode: 'Single'
      secrets: [{ name: 'config', value: config }]
    }
    template: {
      // Two recordings must not share a spool.
      scale: { minReplicas: 1, maxReplicas: 1 }
      terminationGracePeriodSeconds: 60
      containers: [
        {
          name: 'camsink'
          image: image
          resources: { cpu: json('1.0'), memory: '2Gi' }
          env: [
            { name: 'AZURE_CLIENT_ID', value: identity.properties.clientId }
            { name: 'CAMSINK_CONFIG', value: '/etc/camsink/config' }
          ]
          volumeMounts: [
            { volumeName: 'config', mountPath: '/etc/camsink' }
            { volumeName: 'spool', mountPath: '/data' }
          ]
        }
      ]
      volumes: [
        { name: 'config', storageType: 'Secret', secrets: [{ secretRef: 'config', path: 'config' }] }
        { name: 'spool', storageType: 'EmptyDir' }
      ]
    }
  }
}
