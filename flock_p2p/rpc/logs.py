"""Which logs are asked for, and where they are: a range of final blocks, bounded, their blooms read first."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from flock_chain.crypto import keccak256
from flock_chain.execution.blocks import Header
from flock_p2p.rpc.errors import LIMIT_EXCEEDED, RESOURCE_NOT_FOUND, RpcError, invalid
from flock_p2p.rpc.objects import Row, log_rows
from flock_p2p.rpc.values import data, parse_account, parse_block, parse_data
from flock_peers.ledger.queries import ChainView

MAX_RANGE = 2_000  # blocks of one question: about half an hour of a busy chain, 0.2 s of reading
MAX_LOGS = 10_000  # in one answer, about 6 MB of JSON
MAX_ADDRESSES = 100  # of contracts in one question; six exist by default
MAX_TOPICS = 4  # the EVM's
MAX_ALTERNATIVES = 100  # of one topic
MAX_WANTED = MAX_ADDRESSES + MAX_TOPICS * MAX_ALTERNATIVES  # in one question
MASKS_KEPT = 1 << 15  # 64 connections may follow as many: each block would have them made anew
MAX_BLOCK_NAME = 66  # characters: a hash


@dataclass(frozen=True)
class Criteria:
    """Empty addresses: any. Of a topic's place None is any, else one of these; places that are not named are any."""

    addresses: frozenset[str]  # as in rows
    topics: tuple[frozenset[str] | None, ...]

    def count(self) -> int:
        """Addresses and topics that it names."""
        return len(self.addresses) + sum(len(wanted) for wanted in self.topics if wanted is not None)

    def fits(self, row: Row) -> bool:
        if self.addresses and row["address"] not in self.addresses:
            return False
        if len(self.topics) > len(row["topics"]):
            return False
        places = zip(self.topics, row["topics"], strict=False)
        return all(wanted is None or found in wanted for wanted, found in places)

    def may_be_in(self, header: Header) -> bool:
        """By its bloom: no only where it is certain."""
        bits = int.from_bytes(header.bloom, "big")
        places = [self.addresses or None, *self.topics]
        return all(place is None or any(bits & _mask(item) == _mask(item) for item in place) for place in places)


@lru_cache(MASKS_KEPT)
def _mask(item: str) -> int:
    digest = keccak256(bytes.fromhex(item[2:]))
    bits = 0
    for at in (0, 2, 4):
        bits |= 1 << (int.from_bytes(digest[at : at + 2], "big") & 2047)
    return bits


def parse_criteria(value: Any) -> Criteria:
    if not isinstance(value, dict):
        raise invalid("filter: not an object")
    if unknown := set(value) - {"address", "topics", "fromBlock", "toBlock", "blockHash"}:
        raise invalid(f"filter: {sorted(unknown)[0][:40]!r} is not understood here")
    address, topics = value.get("address"), value.get("topics")
    addresses = [] if address is None else address if isinstance(address, list) else [address]
    if len(addresses) > MAX_ADDRESSES:
        raise RpcError(LIMIT_EXCEEDED, f"filter: more than {MAX_ADDRESSES} addresses")
    if topics is not None and (not isinstance(topics, list) or len(topics) > MAX_TOPICS):
        raise invalid(f"filter: topics are a list of at most {MAX_TOPICS}")
    places = tuple(_parse_topic(row) for row in topics or [])
    return Criteria(frozenset(data(parse_account(row)) for row in addresses), places)


def _parse_topic(value: Any) -> frozenset[str] | None:
    if value is None or value == []:
        return None
    alternatives = value if isinstance(value, list) else [value]
    if len(alternatives) > MAX_ALTERNATIVES:
        raise RpcError(LIMIT_EXCEEDED, f"filter: more than {MAX_ALTERNATIVES} alternatives of one topic")
    if None in alternatives:
        return None
    return frozenset(data(parse_data(row, "topic", 32)) for row in alternatives)


def parse_range(value: Any, view: ChainView) -> range:
    """The heights that a filter names, as far as they are final; empty where none of them is."""
    if value.get("blockHash") is not None:
        if value.get("fromBlock") is not None or value.get("toBlock") is not None:
            raise invalid("filter: a block hash and a range")
        height = parse_block({"blockHash": value["blockHash"]}, view)
        if height is None:
            raise RpcError(RESOURCE_NOT_FOUND, "unknown block")
        return range(height, height + 1)
    first, last = parse_block(value.get("fromBlock"), view), parse_block(value.get("toBlock"), view)
    if first is None:
        return range(0)
    last = view.head if last is None else last
    if last < first:
        raise invalid("filter: the range ends before it begins")
    if last - first >= MAX_RANGE:
        raise RpcError(LIMIT_EXCEEDED, f"filter: {last - first + 1} blocks, at most {MAX_RANGE} in one question")
    return range(first, last + 1)


def keep_range(value: Row) -> Row:
    """What `parse_range` reads of a filter that is kept: its creator is not to fill the memory with the rest."""
    kept = {name: value[name] for name in ("fromBlock", "toBlock", "blockHash") if value.get(name) is not None}
    for name, row in kept.items():
        if not isinstance(row, str) or len(row) > MAX_BLOCK_NAME:
            raise invalid(f"filter: {name} is neither a number nor a hash nor a name of a block")
    return kept


def find_logs(view: ChainView, criteria: Criteria, heights: range) -> list[Row]:
    """Raises Unavailable where a block is not here, RpcError where there are too many in more than one block."""
    found: list[Row] = []
    for height in heights:
        header = view.header(height)
        if not criteria.may_be_in(header):
            continue
        found += [row for row in log_rows(header, view.receipts(height)) if criteria.fits(row)]
        if len(found) > MAX_LOGS and len(heights) > 1:
            raise RpcError(LIMIT_EXCEEDED, f"more than {MAX_LOGS} logs; ask for fewer blocks")
    return found
