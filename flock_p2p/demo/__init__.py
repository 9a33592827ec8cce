"""The demonstration: a whole network as processes on this machine, watched, and judged from its own chain."""
