// Calls Checkmate with Connect's client over gRPC-Web (HTTP/1.1 and HTTP/2) and gRPC, its services made from the
// descriptors that `buf build` writes.
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { createFileRegistry, fromBinary } from '@bufbuild/protobuf'
import { FileDescriptorSetSchema, timestampDate } from '@bufbuild/protobuf/wkt'
import { Code, ConnectError, createClient } from '@connectrpc/connect'
import { createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node'
import { ADMIN_KEY, BAD_KEY, expect, PROTO, READER_KEY, UNKNOWN_ID, URL_BASE } from './check.js'

const CatalogService = descriptors(PROTO).getService('checkmate.catalog.v1.CatalogService')
const BadRequest = descriptors(fileURLToPath(new URL('google-rpc', import.meta.url))).getMessage('google.rpc.BadRequest')

await everyAnswer('gRPC-Web, HTTP/1.1', createGrpcWebTransport({ baseUrl: URL_BASE, httpVersion: '1.1' }))
await everyAnswer('gRPC-Web, HTTP/2', createGrpcWebTransport({ baseUrl: URL_BASE, httpVersion: '2' }))
await everyAnswer('gRPC', createGrpcTransport({ baseUrl: URL_BASE }))

function descriptors(folder) {
  const set = execFileSync('buf', ['build', folder, '-o', '-#format=binpb'], { maxBuffer: 16 * 1024 * 1024 })
  return createFileRegistry(fromBinary(FileDescriptorSetSchema, set))
}

async function everyAnswer(over, transport) {
  const catalog = createClient(CatalogService, transport)
  const before = Date.now()

  const { system } = await catalog.createSystem({ name: 'from connect', metadata: { tier: 1 } }, as(ADMIN_KEY))
  expect(`${over}: a system is created`, [system.name, system.owner, system.metadata], [
    'from connect',
    undefined,
    { tier: 1 },
  ])
  expect(`${over}: its time of creation is now`, Math.abs(timestampDate(system.createdAt) - before) < 60_000, true)
  expect(`${over}: the list has it`, (await catalog.getSystems({}, as(READER_KEY))).systems.at(-1), system)
  expect(`${over}: it reads back the same`, (await catalog.getSystem({ systemId: system.id }, as(READER_KEY))).system, system)
  expect(`${over}: it is deleted`, (await catalog.deleteSystem({ id: system.id }, as(ADMIN_KEY))).success, true)

  await refused(`${over}: UNAUTHENTICATED without a key`, catalog.getSystems({}), {
    code: Code.Unauthenticated,
    message: 'Authentication required',
  })
  await refused(`${over}: UNAUTHENTICATED with a bad key`, catalog.getSystems({}, as(BAD_KEY)), {
    code: Code.Unauthenticated,
    message: 'Invalid API key',
  })
  await refused(`${over}: PERMISSION_DENIED without the permission`, catalog.createSystem({ name: 'x' }, as(READER_KEY)), {
    code: Code.PermissionDenied,
    message: 'Missing permission: catalog.catalog.manage',
  })
  await refused(`${over}: NOT_FOUND for an unknown id`, catalog.getSystem({ systemId: UNKNOWN_ID }, as(ADMIN_KEY)), {
    code: Code.NotFound,
    message: `System not found: ${UNKNOWN_ID}`,
  })
  await refused(
    `${over}: INVALID_ARGUMENT for a blank name, with the field in its details`,
    catalog.createSystem({ name: ' ' }, as(ADMIN_KEY)),
    {
      code: Code.InvalidArgument,
      message: 'Input validation failed: name: Required',
      violations: [['name', 'Required']],
    },
  )
}

function as(key) {
  return { headers: { authorization: `Bearer ${key}` } }
}

async function refused(claim, call, { violations = [], ...wanted }) {
  const error = ConnectError.from(await call.catch(error => error))
  const fields = error.findDetails(BadRequest).flatMap(detail => detail.fieldViolations)
  expect(
    claim,
    { code: error.code, message: error.rawMessage, violations: fields.map(found => [found.field, found.description]) },
    { ...wanted, violations },
  )
}
