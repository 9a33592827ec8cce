"""The libp2p layer: encrypted connections, messages, requests, gossip and blobs. The only package that imports libp2p.

Import the modules (`host`, `blobs`, `genesis_fetch`) where they are needed: libp2p takes a second to load.
"""

from flock_chain.deferred import defer

# Options of libp2p's host that are never on here: certificates from an authority of the web's, routers, its bootstrap.
defer("libp2p.security.tls.autotls.acme", "ACMEClient", "compute_b36_peer_id")
defer("libp2p.security.tls.autotls.broker", "BrokerClient")
defer("libp2p.discovery.upnp.upnp", "UpnpManager")
defer("libp2p.discovery.bootstrap.bootstrap", "BootstrapDiscovery")
