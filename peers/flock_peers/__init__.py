"""One peer: everything that touches network, disk, clock or accelerator."""
