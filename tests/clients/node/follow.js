// Follows incidents with grpc-js, its contract loaded from the .proto files, and resumes where it stopped.
import { on } from 'node:events'
import grpc from '@grpc/grpc-js'
import loader from '@grpc/proto-loader'
import { ADMIN_KEY, expect, PROTO, READER_KEY, URL_BASE } from './check.js'

const options = { includeDirs: [PROTO], enums: String }
const files = ['checkmate/catalog/v1/catalog.proto', 'checkmate/incident/v1/incident.proto']
const { checkmate } = grpc.loadPackageDefinition(loader.loadSync(files, options))
const [host, credentials] = [new URL(URL_BASE).host, grpc.credentials.createInsecure()]
const catalog = new checkmate.catalog.v1.CatalogService(host, credentials)
const incidents = new checkmate.incident.v1.IncidentService(host, credentials)

const { system } = await call(catalog, 'CreateSystem', { name: 'followed' })
const first = follow({})
const state = []
do state.push(await first.next())
while (state.at(-1).type !== 'EVENT_TYPE_SYNCED')
expect('the state is complete at once', typeof state.at(-1).cursor, 'string')

const severity = 'INCIDENT_SEVERITY_MAJOR'
const { incident } = await call(incidents, 'CreateIncident', { title: 'down', severity, systemIds: [system.id] })
const created = await first.next()
expect('an incident that is opened is told', [created.type, created.incident.id], ['EVENT_TYPE_CREATED', incident.id])
expect('its stream ends when its reader leaves', await first.leave(), grpc.status.CANCELLED)

await call(incidents, 'ResolveIncident', { id: incident.id })
const second = follow({ cursor: created.cursor })
const resolved = await second.next()
expect('what came meanwhile is told', [resolved.type, resolved.incident.status], ['EVENT_TYPE_UPDATED', 'INCIDENT_STATUS_RESOLVED'])
await call(incidents, 'DeleteIncident', { id: incident.id })
expect('and the end', (await second.next()).type, 'EVENT_TYPE_DELETED')
await second.leave()
await call(catalog, 'DeleteSystem', { id: system.id })
catalog.close()
incidents.close()

function follow(request) {
  const stream = incidents.WatchIncidents(request, as(READER_KEY), { deadline: Date.now() + 20_000 })
  const messages = on(stream, 'data')
  // What ends it is looked at where it is ended.
  const ended = new Promise(resolve => stream.on('error', error => resolve(error.code)))
  return {
    next: async () => (await messages.next()).value[0],
    leave: () => (stream.cancel(), ended),
  }
}

function call(client, method, request) {
  return new Promise((resolve, reject) => {
    client[method](request, as(ADMIN_KEY), (error, response) => (error ? reject(error) : resolve(response)))
  })
}

function as(key) {
  const metadata = new grpc.Metadata()
  metadata.set('authorization', `Bearer ${key}`)
  return metadata
}
