"""Height-wise Simplex as a pure state machine: inputs in, effects out. No EVM, sockets, disks or clocks."""
