"""The rules of the market: Vyper sources, compiled artifacts and a typed loader."""
