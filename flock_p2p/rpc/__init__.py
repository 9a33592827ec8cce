"""The Ethereum JSON-RPC of a peer: what wallets and libraries need to read, call, send and follow its chain."""
