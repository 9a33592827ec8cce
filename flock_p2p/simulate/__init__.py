"""The simulator of consensus, its properties, its mutants, and the proof. Runs the product's core, signer and logs."""
