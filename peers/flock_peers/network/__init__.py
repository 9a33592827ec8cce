"""The libp2p layer: encrypted connections, messages, requests, gossip and blobs. The only package that imports libp2p.

Import the modules (`host`, `blobs`, `genesis_fetch`) where they are needed: libp2p takes a second to load.
"""
