"""What a peer keeps on disk: chain, votes, signer, blobs. Knows no network."""
