// What the Node clients share: whom they call as, and the assertion that prints a line for every claim that holds and
// ends the program at the first that does not.
import { basename } from 'node:path'
import { inspect, isDeepStrictEqual } from 'node:util'

export const URL_BASE = process.env.CHECKMATE_URL
export const ADMIN_KEY = process.env.CHECKMATE_KEY
export const READER_KEY = process.env.CHECKMATE_READER_KEY
export const BAD_KEY = `${ADMIN_KEY}x`
export const PROTO = process.env.CHECKMATE_PROTO
export const UNKNOWN_ID = '00000000-0000-4000-8000-000000000000'

const program = basename(process.argv[1], '.js')

process.on('uncaughtException', error => fail('nothing throws', 'no error', error))

export function expect(claim, got, wanted) {
  if (!isDeepStrictEqual(got, wanted)) {
    fail(claim, wanted, got)
  }
  console.log(`ok ${program}: ${claim}`)
}

function fail(claim, wanted, got) {
  const show = value => inspect(value, { depth: 10, breakLength: Infinity })
  console.log(`FAILED ${program}: ${claim}\n  wanted: ${show(wanted)}\n  got:    ${show(got)}`)
  process.exit(1)
}
