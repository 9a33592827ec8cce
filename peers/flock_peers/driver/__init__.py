"""The one loop of a peer: feeds the consensus core and carries out its effects."""
