"""Keys and signed statements for tests of the staking contract."""

from functools import cache
from typing import Any

from contracts_support import CHAIN_ID, ETHER, GENESIS_HASH, RICH, World, build_genesis

from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.types import Kind
from flock_chain.crypto import Key, keccak256

DOMAIN = ChainDomain(CHAIN_ID, GENESIS_HASH)


@cache
def staking_key(index: int) -> Key:
    return Key(keccak256(b"staking test key", bytes([index])))


def make_statement(
    key: Key, kind: Kind, height: int, view: int, block_id: bytes, parent_view: int = 0, domain: ChainDomain = DOMAIN
) -> dict[str, int | bytes]:
    """As `report` takes it."""
    signature = key.sign(domain.digest(kind, height, view, block_id, parent_view))
    r, s = (int.from_bytes(signature[at : at + 32], "big") for at in (0, 32))
    return {
        "kind": int(kind), "height": height, "view": view, "block_id": block_id, "parent_view": parent_view,
        "v": signature[64] + 27, "r": r, "s": s,
    }  # fmt: skip


def make_statements(
    key: Key, height: int, domain: ChainDomain = DOMAIN
) -> tuple[dict[str, int | bytes], dict[str, int | bytes]]:
    """Two notarize votes of view 1."""
    return (
        make_statement(key, Kind.NOTARIZE, height, 1, b"\1" * 32, domain=domain),
        make_statement(key, Kind.NOTARIZE, height, 1, b"\2" * 32, domain=domain),
    )


FOUNDERS = [staking_key(index) for index in range(4)]
NEWCOMER, REPORTER = staking_key(10), staking_key(11)
SHORT: dict[str, Any] = {  # epochs of two blocks
    "epoch_blocks": 2, "epoch_seconds": 20, "absence_limit": 3, "jail_delay": 30, "unbonding_delay": 90,
    "evidence_window": 60, "open_staking": True,
}  # fmt: skip


@cache
def _base(stakes: tuple[int, ...], changes: tuple[tuple[str, Any], ...]) -> Any:
    rows = [(key.account, stake, vrf_key(key)) for key, stake in zip(FOUNDERS, stakes, strict=False)]
    return build_genesis(0, rows, **dict(changes))


def staking_world(stakes: tuple[int, ...] = (40 * ETHER,) * 4, **changes: Any) -> World:
    """Founders with these stakes, and everybody rich."""
    world = World(*_base(stakes, tuple(sorted((SHORT | changes).items()))))
    for key in (*FOUNDERS, NEWCOMER, REPORTER):
        world.state.set_balance(key.account, RICH)
    world.next_block(pokes=False)
    return world


def vrf_key(key: Key) -> bytes:
    return keccak256(b"vrf", key.account)


def next_epoch(world: World, count: int = 1) -> None:
    """Blocks of 10 seconds until so many epochs have ended."""
    until = world.view("Stake", "epoch") + count
    while world.view("Stake", "epoch") < until:
        world.next_block(10, pokes=False)


def weights(world: World, epoch: int | None = None) -> dict[bytes, int]:
    rows = world.view("Stake", "validators") if epoch is None else world.view("Stake", "validators_of", epoch)
    return {row["account"]: row["weight"] for row in rows}
