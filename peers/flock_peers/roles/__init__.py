"""What a peer does in a task: reads the board at each new head and decides. Knows no sockets, no EVM, no torch."""
