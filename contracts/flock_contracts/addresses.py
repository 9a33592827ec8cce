"""Where the genesis contracts live, and who the system is. Constants only."""

SYSTEM = bytes.fromhex("ff" * 19 + "fe")  # unsigned system calls come from here, as in EIP-4788
BEACON = bytes.fromhex("f10c01").rjust(20, b"\0")
STAKE = bytes.fromhex("f10c02").rjust(20, b"\0")
FAUCET = bytes.fromhex("f10c03").rjust(20, b"\0")
BOARD = bytes.fromhex("f10c04").rjust(20, b"\0")
DELEGATION = bytes.fromhex("f10c05").rjust(20, b"\0")
LIMITS = bytes.fromhex("f10c06").rjust(20, b"\0")

BY_NAME: dict[str, bytes] = {
    "Beacon": BEACON,
    "Stake": STAKE,
    "Faucet": FAUCET,
    "TaskBoard": BOARD,
    "Delegation": DELEGATION,
    "Limits": LIMITS,
}
