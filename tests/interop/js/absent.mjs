// A loader: what helia's default configuration imports and this test never uses (WebRTC, HTTP, UPnP, ACME) is not
// installed (package.json puts something small in its place), and resolves to nothing.mjs.
const ABSENT = new Set(['@libp2p/webrtc', '@ipshipyard/libp2p-auto-tls', '@libp2p/upnp-nat', '@libp2p/http', '@helia/http'])

export async function resolve (specifier, context, next) {
  if (!ABSENT.has(specifier)) return next(specifier, context)
  return { url: new URL('./nothing.mjs', import.meta.url).href, shortCircuit: true }
}
