"""What every peer computes identically: no I/O, no clock, no randomness."""
