// Dials a peer with js-libp2p, then with helia, and prints what it got, a JSON object a line.
// Arguments: address of the peer, gossip topic, content id of an object, content id of one that is not public.
import { createHash } from 'node:crypto'
import { register } from 'node:module'

register('./absent.mjs', import.meta.url)

if (Promise.withResolvers == null) { // node 20
  Promise.withResolvers = () => {
    let resolve, reject
    const promise = new Promise((yes, no) => { resolve = yes; reject = no })
    return { promise, resolve, reject }
  }
}

const { createLibp2p } = await import('libp2p')
const { tcp } = await import('@libp2p/tcp')
const { noise } = await import('@libp2p/noise')
const { yamux } = await import('@libp2p/yamux')
const { identify } = await import('@libp2p/identify')
const { ping } = await import('@libp2p/ping')
const { gossipsub } = await import('@libp2p/gossipsub')
const { generateKeyPair } = await import('@libp2p/crypto/keys')
const { multiaddr } = await import('@multiformats/multiaddr')
const { CID } = await import('multiformats/cid')
const { createHeliaLight } = await import('helia')
const { withLibp2pLight } = await import('@helia/libp2p')
const { withBitswap } = await import('@helia/bitswap')

const [address, topic, cid, hidden] = process.argv.slice(2)
const report = (what) => process.stdout.write(JSON.stringify(what) + '\n')
const text = (bytes) => new TextDecoder().decode(bytes)
const within = (promise, seconds, what) => Promise.race([
  promise,
  new Promise((_, no) => setTimeout(() => no(new Error(`${what}: nothing within ${seconds} s`)), seconds * 1000).unref())
])
const stack = async (kind) => ({
  privateKey: await generateKeyPair(kind),
  addresses: { listen: [] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()]
})

async function talk () {
  const node = await createLibp2p({
    ...await stack('secp256k1'),
    services: { identify: identify(), ping: ping(), pubsub: gossipsub() }
  })
  const identified = new Promise((resolve) => node.addEventListener('peer:identify', (event) => resolve(event.detail), { once: true }))
  const heard = new Promise((resolve) => node.services.pubsub.addEventListener('message', (event) => resolve(event.detail)))
  node.services.pubsub.subscribe(topic)
  const connection = await node.dial(multiaddr(address))
  const { agentVersion, protocols } = await within(identified, 10, 'identify')
  report({ identify: agentVersion, protocols })
  report({ ping: await within(node.services.ping.ping(connection.remotePeer), 10, 'ping') })
  while (node.services.pubsub.getSubscribers(topic).length === 0) await new Promise((resolve) => setTimeout(resolve, 50))
  report({ subscribers: node.services.pubsub.getSubscribers(topic).map(String), me: node.peerId.toString() })
  await node.services.pubsub.publish(topic, new TextEncoder().encode('from js'))
  const message = await within(heard, 20, 'gossip')
  report({ heard: text(message.data), from: String(message.from) })
  await node.stop()
}

async function fetch () {
  const id = CID.parse(cid)
  report({ cid: id.toString(), version: id.version, codec: id.code, hash: id.multihash.code, digest: Buffer.from(id.multihash.digest).toString('hex') })
  const node = await withBitswap(withLibp2pLight(createHeliaLight(), {
    ...await stack('Ed25519'), services: { identify: identify() }
  })).start()
  await node.libp2p.dial(multiaddr(address))
  const bytes = await get(node, id, 20)
  report({ size: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') })
  const other = await get(node, CID.parse(hidden), 3).then(() => 'given', () => 'not given')
  report({ hidden: other })
  await node.stop()
}

async function get (node, id, seconds) {
  const found = await node.blockstore.get(id, { signal: AbortSignal.timeout(seconds * 1000) })
  if (found instanceof Uint8Array) return found
  const parts = []
  for await (const part of found) parts.push(part)
  return Buffer.concat(parts)
}

try {
  await talk()
  await fetch()
  process.exit(0)
} catch (error) {
  report({ error: String(error), stack: error?.stack })
  process.exit(1)
}
