"""Height-wise Simplex as a pure state machine: inputs in, effects out. Knows nothing of the EVM, sockets, disks or clocks."""
