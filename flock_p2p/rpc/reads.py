"""The methods that only read final state and final blocks: functions of a view of the chain, run in its thread."""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from flock_chain.crypto import keccak256
from flock_chain.execution.blocks import Header
from flock_p2p.rpc.errors import LIMIT_EXCEEDED, RpcError, invalid
from flock_p2p.rpc.logs import find_logs, parse_criteria, parse_range
from flock_p2p.rpc.objects import Row, block_row, decode, effective_tip, receipt_rows, transaction_row
from flock_p2p.rpc.values import (
    data,
    need_block,
    parse_account,
    parse_block,
    parse_bool,
    parse_call,
    parse_data,
    parse_quantity,
    quantity,
    take,
)
from flock_peers.ledger.queries import ChainView

MAX_FEE_BLOCKS = 128  # of one fee history: wallets ask for 5 to 20
MAX_PERCENTILES = 20
Read = Callable[[ChainView, Sequence[Any]], Any]


def block_number(view: ChainView, parameters: Sequence[Any]) -> str:
    take(parameters, 0, 0)
    return quantity(view.head)


# ---- state
def get_balance(view: ChainView, parameters: Sequence[Any]) -> str:
    account, block = take(parameters, 1, 2)
    return quantity(view.state(need_block(block, view)).get_balance(parse_account(account)))


def get_transaction_count(view: ChainView, parameters: Sequence[Any]) -> str:
    account, block = take(parameters, 1, 2)
    return quantity(view.state(need_block(block, view)).get_nonce(parse_account(account)))


def get_code(view: ChainView, parameters: Sequence[Any]) -> str:
    account, block = take(parameters, 1, 2)
    return data(view.state(need_block(block, view)).get_code(parse_account(account)))


def get_storage_at(view: ChainView, parameters: Sequence[Any]) -> str:
    account, slot, block = take(parameters, 2, 3)
    state = view.state(need_block(block, view))
    value = state.get_storage(parse_account(account), parse_quantity(slot, "slot"))
    return data(value.to_bytes(32, "big"))


def call(view: ChainView, parameters: Sequence[Any]) -> str:
    transaction, block, overrides, more = take(parameters, 1, 4)
    if overrides or more:
        raise invalid("eth_call: overrides of state or block are not supported here")
    wanted, gas = parse_call(transaction)
    return data(view.call(need_block(block, view), wanted, gas))


def estimate_gas(view: ChainView, parameters: Sequence[Any]) -> str:
    transaction, block, overrides = take(parameters, 1, 3)
    if overrides:
        raise invalid("eth_estimateGas: overrides of state are not supported here")
    wanted, gas = parse_call(transaction)
    return quantity(view.estimate_gas(need_block(block, view), wanted, gas))


# ---- blocks
def get_block_by_number(view: ChainView, parameters: Sequence[Any]) -> Row | None:
    block, full = take(parameters, 1, 2)
    return _find_block(view, parse_block(block, view), full)


def get_block_by_hash(view: ChainView, parameters: Sequence[Any]) -> Row | None:
    digest, full = take(parameters, 1, 2)
    return _find_block(view, view.find_block(parse_data(digest, "block hash", 32)), full)


def _find_block(view: ChainView, height: int | None, full: Any) -> Row | None:
    wanted = False if full is None else parse_bool(full, "full transactions")
    return None if height is None else block_row(view.block(height), view.chain_id, full=wanted)


def _height(view: ChainView, value: Any, *, by_hash: bool) -> int | None:
    return view.find_block(parse_data(value, "block hash", 32)) if by_hash else parse_block(value, view)


def _counter(*, by_hash: bool) -> Read:
    def count(view: ChainView, parameters: Sequence[Any]) -> str | None:
        (block,) = take(parameters, 1, 1)
        height = _height(view, block, by_hash=by_hash)
        return None if height is None else quantity(len(view.block(height).transactions))

    return count


def _uncle_counter(*, by_hash: bool) -> Read:
    def count(view: ChainView, parameters: Sequence[Any]) -> str | None:
        (block,) = take(parameters, 1, 1)
        return None if _height(view, block, by_hash=by_hash) is None else "0x0"

    return count


# ---- transactions
def _by_index(*, by_hash: bool) -> Read:
    def get(view: ChainView, parameters: Sequence[Any]) -> Row | None:
        block, index = take(parameters, 2, 2)
        height, number = _height(view, block, by_hash=by_hash), parse_quantity(index, "index", 1 << 32)
        return None if height is None else _transaction(view, height, number)

    return get


def _transaction(view: ChainView, height: int, index: int) -> Row | None:
    block = view.block(height)
    if index >= len(block.transactions):
        return None
    return transaction_row(decode(block.transactions[index], view.chain_id), block.header, index)


def find_transaction(view: ChainView, digest: bytes) -> Row | None:
    """A final one."""
    place = view.find_transaction(digest)
    return None if place is None else _transaction(view, *place)


def get_transaction_receipt(view: ChainView, parameters: Sequence[Any]) -> Row | None:
    (digest,) = take(parameters, 1, 1)
    place = view.find_transaction(parse_data(digest, "transaction hash", 32))
    if place is None:
        return None
    return next(row for index, row in enumerate(_receipts(view, place[0])) if index == place[1])


def get_block_receipts(view: ChainView, parameters: Sequence[Any]) -> list[Row] | None:
    (block,) = take(parameters, 1, 1)
    height = _height(view, block, by_hash=isinstance(block, str) and len(block) == 66)
    return None if height is None else _receipts(view, height)


def _receipts(view: ChainView, height: int) -> list[Row]:
    return list(receipt_rows(view.block(height), view.receipts(height), view.chain_id))


def get_logs(view: ChainView, parameters: Sequence[Any]) -> list[Row]:
    (wanted,) = take(parameters, 1, 1)
    criteria = parse_criteria(wanted)
    return find_logs(view, criteria, parse_range(wanted, view))


# ---- fees
def gas_price(view: ChainView, parameters: Sequence[Any]) -> str:
    take(parameters, 0, 0)
    return quantity(view.header(view.head).base_fee)


def fee_history(view: ChainView, parameters: Sequence[Any]) -> Row:
    count, newest, percentiles = take(parameters, 2, 3)
    wanted = count if isinstance(count, int) and not isinstance(count, bool) else parse_quantity(count, "block count")
    if wanted < 1:
        raise invalid("eth_feeHistory: at least one block is needed")
    shares = _parse_percentiles(percentiles)
    last = need_block(newest, view)
    heights = range(max(0, last + 1 - min(wanted, MAX_FEE_BLOCKS)), last + 1)
    headers = [view.header(height) for height in heights]
    row: Row = {
        "oldestBlock": quantity(heights[0]),
        "baseFeePerGas": [quantity(header.base_fee) for header in (*headers, headers[-1])],  # a constant
        "gasUsedRatio": [header.gas_used / header.gas_limit for header in headers],
        "baseFeePerBlobGas": ["0x1"] * (len(headers) + 1),  # no blobs: Ethereum's least
        "blobGasUsedRatio": [0] * len(headers),
    }
    if shares is not None:
        row["reward"] = [_tips(view, header, shares) for header in headers]
    return row


def _parse_percentiles(value: Any) -> list[float] | None:
    if value is None:
        return None
    is_list = isinstance(value, list) and all(type(row) in (int, float) and 0 <= row <= 100 for row in value)
    if not is_list or value != sorted(value):
        raise invalid("eth_feeHistory: percentiles are ascending numbers from 0 to 100")
    if len(value) > MAX_PERCENTILES:
        raise RpcError(LIMIT_EXCEEDED, f"eth_feeHistory: more than {MAX_PERCENTILES} percentiles")
    return list(value)


def _tips(view: ChainView, header: Header, shares: list[float]) -> list[str]:
    """What the transactions paid on top, weighed by their gas; the system's pay nothing and are left out."""
    block, receipts = view.block(header.height), view.receipts(header.height)
    rows = [(decode(raw, view.chain_id), receipt) for raw, receipt in zip(block.transactions, receipts, strict=True)]
    paid = sorted((effective_tip(row, header), receipt.gas_used) for row, receipt in rows if hasattr(row, "sender"))
    reached = list(accumulate(gas for _, gas in paid))
    tips = (
        next((tip for (tip, _), gas in zip(paid, reached) if gas >= reached[-1] * share / 100), 0) for share in shares
    )
    return [quantity(tip) for tip in tips]


def sha3(_view: ChainView, parameters: Sequence[Any]) -> str:
    (value,) = take(parameters, 1, 1)
    return data(keccak256(parse_data(value, "data")))


READS: Mapping[str, Read] = {
    "eth_blockNumber": block_number,
    "eth_getBalance": get_balance,
    "eth_getTransactionCount": get_transaction_count,
    "eth_getCode": get_code,
    "eth_getStorageAt": get_storage_at,
    "eth_call": call,
    "eth_estimateGas": estimate_gas,
    "eth_getBlockByNumber": get_block_by_number,
    "eth_getBlockByHash": get_block_by_hash,
    "eth_getBlockTransactionCountByNumber": _counter(by_hash=False),
    "eth_getBlockTransactionCountByHash": _counter(by_hash=True),
    "eth_getUncleCountByBlockNumber": _uncle_counter(by_hash=False),
    "eth_getUncleCountByBlockHash": _uncle_counter(by_hash=True),
    "eth_getTransactionByBlockNumberAndIndex": _by_index(by_hash=False),
    "eth_getTransactionByBlockHashAndIndex": _by_index(by_hash=True),
    "eth_getTransactionReceipt": get_transaction_receipt,
    "eth_getBlockReceipts": get_block_receipts,
    "eth_getLogs": get_logs,
    "eth_gasPrice": gas_price,
    "eth_feeHistory": fee_history,
    "web3_sha3": sha3,
}
