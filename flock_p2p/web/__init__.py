"""The HTTP server of a peer, on loopback: routes, and what keeps strangers' pages out. Read-only but where said."""
