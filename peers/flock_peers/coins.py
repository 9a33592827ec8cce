"""An amount of coins, as people read it: exact, for one that was rounded up promises what nobody has."""

COIN = 10**18  # wei


def format_exact(wei: int) -> str:
    """As many decimals as it takes, 18 at most: "5", "0.25"."""
    whole, part = divmod(abs(wei), COIN)
    decimals = f"{part:018d}".rstrip("0")
    return ("-" if wei < 0 else "") + str(whole) + (f".{decimals}" if decimals else "")


def count_coins(wei: int) -> str:
    """With its unit."""
    return f"{format_exact(wei)} {'coin' if abs(wei) == COIN else 'coins'}"
