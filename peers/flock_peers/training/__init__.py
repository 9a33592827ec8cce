"""The LoRA trainer: domains and documents that need no torch, and one process that does. Knows no chain and no peer."""
