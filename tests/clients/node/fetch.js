// Calls Checkmate with Node's own fetch, through the function that the documentation gives to JavaScript programs.
import { ADMIN_KEY, BAD_KEY, expect, READER_KEY, UNKNOWN_ID, URL_BASE } from './check.js'

const API_BASE = URL_BASE
// `let`, so that the checks can change who calls.
let API_KEY = ADMIN_KEY

// The documentation's function, word for word but for its TypeScript types.
// Call a single procedure
async function callRpc(
  pluginId,
  procedure,
  input
) {
  const response = await fetch(`${API_BASE}/api/${pluginId}/`, {
    method: "POST",
    headers: {
      "Authorization": `Bearer ${API_KEY}`,
      "Content-Type": "application/json",
    },
    body: JSON.stringify({ [procedure]: input ?? {} }),
  });

  if (!response.ok) {
    const error = await response.json();
    throw new Error(error.message || `HTTP ${response.status}`);
  }

  const result = await response.json();
  return result[procedure];
}

// The documentation's batch, word for word, in a function.
async function batch() {
  const response = await fetch(`${API_BASE}/api/catalog/`, {
    method: "POST",
    headers: {
      "Authorization": `Bearer ${API_KEY}`,
      "Content-Type": "application/json",
    },
    body: JSON.stringify({
      getSystems: {},
      getGroups: {},
    }),
  });

  const { getSystems, getGroups } = await response.json();
  return { getSystems, getGroups };
}

const system = await callRpc('catalog', 'createSystem', { name: 'from fetch', metadata: { tier: 1 } })
expect('a system is created', [system.name, system.owner, system.metadata], ['from fetch', null, { tier: 1 }])

API_KEY = READER_KEY
const systems = await callRpc("catalog", "getSystems");
expect('the list has it', systems.at(-1), system)
expect('it reads back the same', await callRpc('catalog', 'getSystem', { systemId: system.id }), system)
expect('a batch answers both calls', await batch(), { getSystems: systems, getGroups: [] })
await refused('403 without the permission', 'createSystem', { name: 'x' }, 403, {
  code: 'FORBIDDEN',
  message: 'Missing permission: catalog.catalog.manage',
})

API_KEY = ADMIN_KEY
expect('it is deleted', await callRpc('catalog', 'deleteSystem', system.id), { success: true })
await refused('404 for an unknown id', 'getSystem', { systemId: UNKNOWN_ID }, 404, {
  code: 'NOT_FOUND',
  message: `System not found: ${UNKNOWN_ID}`,
})
await refused('400 for a blank name', 'createSystem', { name: ' ' }, 400, {
  code: 'BAD_REQUEST',
  message: 'Input validation failed: name: Required',
  data: { issues: [{ path: ['name'], message: 'Required' }] },
})

API_KEY = BAD_KEY
await refused('401 with a bad key', 'getSystems', {}, 401, { code: 'UNAUTHORIZED', message: 'Invalid API key' })

const anonymous = await fetch(`${API_BASE}/api/catalog/`, {
  method: 'POST',
  headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify({ getSystems: {} }),
})
expect('401 without a key', [anonymous.status, await anonymous.json()], [
  401,
  { code: 'UNAUTHORIZED', message: 'Authentication required' },
])

// The documented function throws the message alone, so the same call is made once more to see status and body.
async function refused(claim, procedure, input, status, body) {
  const thrown = await callRpc('catalog', procedure, input).catch(error => error)
  expect(`${claim}: the documented function throws the message`, thrown, new Error(body.message))

  const response = await fetch(`${API_BASE}/api/catalog/`, {
    method: 'POST',
    headers: { 'Authorization': `Bearer ${API_KEY}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({ [procedure]: input }),
  })
  expect(`${claim}: status and body`, [response.status, await response.json()], [status, body])
}
