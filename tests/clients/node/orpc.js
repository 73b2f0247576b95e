// Calls Checkmate with oRPC's own client, unmodified: its envelope, its dates, its errors, its batches.
import { createORPCClient, ORPCError } from '@orpc/client'
import { RPCLink } from '@orpc/client/fetch'
import { BatchLinkPlugin } from '@orpc/client/plugins'
import { ADMIN_KEY, BAD_KEY, expect, READER_KEY, UNKNOWN_ID, URL_BASE } from './check.js'

const admin = clientWith(ADMIN_KEY)
const reader = clientWith(READER_KEY)

const before = Date.now()
const system = await admin.catalog.createSystem({ name: 'from oRPC', metadata: { tier: 1 } })
expect('a system is created', [system.name, system.owner, system.metadata], ['from oRPC', null, { tier: 1 }])
expect('createdAt is a Date', system.createdAt instanceof Date, true)
expect('createdAt is now', Math.abs(system.createdAt - before) < 60_000, true)
expect('the list has it, without an input', (await reader.catalog.getSystems()).at(-1), system)
expect('the list has it, with an empty input', (await reader.catalog.getSystems({})).at(-1), system)
expect('it reads back the same', await reader.catalog.getSystem({ systemId: system.id }), system)

expect('it is deleted', await admin.catalog.deleteSystem(system.id), { success: true })

const expiresAt = new Date(Date.now() + 3_600_000)
const { application, secret } = await admin.auth.createApplication({ name: 'from oRPC', expiresAt })
expect('a Date that is sent comes back as the same Date', application.expiresAt, expiresAt)
expect('the new key is accepted', (await clientWith(secret).auth.whoAmI()).expiresAt, expiresAt)
expect('an application is deleted', await admin.auth.deleteApplication(application.id), { success: true })

await refused('401 without a key', clientWith(undefined).catalog.getSystems(), {
  code: 'UNAUTHORIZED',
  status: 401,
  message: 'Authentication required',
})
await refused('401 with a bad key', clientWith(BAD_KEY).catalog.getSystems(), {
  code: 'UNAUTHORIZED',
  status: 401,
  message: 'Invalid API key',
})
await refused('403 without the permission', reader.catalog.createSystem({ name: 'x' }), {
  code: 'FORBIDDEN',
  status: 403,
  message: 'Missing permission: catalog.catalog.manage',
})
await refused('404 for an unknown id', admin.catalog.getSystem({ systemId: UNKNOWN_ID }), {
  code: 'NOT_FOUND',
  status: 404,
  message: `System not found: ${UNKNOWN_ID}`,
})
await refused('400 for a blank name, with the field in its data', admin.catalog.createSystem({ name: ' ' }), {
  code: 'BAD_REQUEST',
  status: 400,
  message: 'Input validation failed: name: Required',
  data: { issues: [{ path: ['name'], message: 'Required' }] },
})

for (const mode of ['buffered', 'streaming']) {
  const batching = clientWith(READER_KEY, [
    new BatchLinkPlugin({ mode, groups: [{ condition: () => true, context: {} }] }),
  ])
  expect(
    `a ${mode} batch answers every call`,
    await Promise.all([
      batching.catalog.getSystems(),
      batching.catalog.getGroups(),
      batching.auth.whoAmI().then(({ name }) => name),
      batching.catalog.getSystem({ systemId: UNKNOWN_ID }).catch(error => error.message),
    ]),
    [[], [], 'reader', `System not found: ${UNKNOWN_ID}`],
  )
}

function clientWith(key, plugins = []) {
  const headers = key ? { authorization: `Bearer ${key}` } : {}
  return createORPCClient(new RPCLink({ url: `${URL_BASE}/api`, headers, plugins }))
}

async function refused(claim, call, { data, ...wanted }) {
  const error = await call.catch(error => error)
  const { constructor, code, status, message } = error
  expect(claim, { constructor, code, status, message, data: error.data }, { constructor: ORPCError, ...wanted, data })
}
