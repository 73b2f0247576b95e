// Calls Checkmate with grpc-js, its contract loaded from the .proto files by proto-loader.
import { fileURLToPath } from 'node:url'
import grpc from '@grpc/grpc-js'
import loader from '@grpc/proto-loader'
import { ADMIN_KEY, BAD_KEY, expect, PROTO, READER_KEY, UNKNOWN_ID, URL_BASE } from './check.js'

const contract = loader.loadSync('checkmate/catalog/v1/catalog.proto', { includeDirs: [PROTO] })
const details = loader.loadSync('status.proto', { includeDirs: [fileURLToPath(new URL('google-rpc', import.meta.url))] })
const { CatalogService } = grpc.loadPackageDefinition(contract).checkmate.catalog.v1
const catalog = new CatalogService(new URL(URL_BASE).host, grpc.credentials.createInsecure())

const { system } = await call('CreateSystem', ADMIN_KEY, {
  name: 'from grpc-js',
  metadata: { fields: { tier: { numberValue: 1 } } },
})
expect('a system is created', [system.name, system.metadata.fields.tier.numberValue], ['from grpc-js', 1])
expect('the list has it', (await call('GetSystems', READER_KEY, {})).systems.at(-1), system)
expect('it reads back the same', await call('GetSystem', READER_KEY, { systemId: system.id }), { system })
expect('it is deleted', await call('DeleteSystem', ADMIN_KEY, { id: system.id }), { success: true })

await refused('UNAUTHENTICATED without a key', 'GetSystems', undefined, {}, {
  code: grpc.status.UNAUTHENTICATED,
  message: 'Authentication required',
})
await refused('UNAUTHENTICATED with a bad key', 'GetSystems', BAD_KEY, {}, {
  code: grpc.status.UNAUTHENTICATED,
  message: 'Invalid API key',
})
await refused('PERMISSION_DENIED without the permission', 'CreateSystem', READER_KEY, { name: 'x' }, {
  code: grpc.status.PERMISSION_DENIED,
  message: 'Missing permission: catalog.catalog.manage',
})
await refused('NOT_FOUND for an unknown id', 'GetSystem', ADMIN_KEY, { systemId: UNKNOWN_ID }, {
  code: grpc.status.NOT_FOUND,
  message: `System not found: ${UNKNOWN_ID}`,
})
await refused('INVALID_ARGUMENT for a blank name, with the field in its details', 'CreateSystem', ADMIN_KEY, { name: ' ' }, {
  code: grpc.status.INVALID_ARGUMENT,
  message: 'Input validation failed: name: Required',
  violations: [{ field: 'name', description: 'Required' }],
})

catalog.close()

async function refused(claim, method, key, request, wanted) {
  const error = await call(method, key, request).catch(error => error)
  expect(claim, { code: error.code, message: error.details, ...violations(error) }, wanted)
}

function call(method, key, request) {
  const metadata = new grpc.Metadata()
  if (key) metadata.set('authorization', `Bearer ${key}`)
  return new Promise((resolve, reject) => {
    catalog[method](request, metadata, (error, response) => (error ? reject(error) : resolve(response)))
  })
}

// The field violations, if the error has any.
function violations(error) {
  const [status] = error.metadata?.get('grpc-status-details-bin') ?? []
  if (!status) return {}
  const [{ type_url, value }] = details['google.rpc.Status'].deserialize(status).details
  expect('the details are a BadRequest', type_url, 'type.googleapis.com/google.rpc.BadRequest')
  return { violations: details['google.rpc.BadRequest'].deserialize(value).fieldViolations }
}
