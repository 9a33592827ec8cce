"""Final blocks, transactions, receipts and logs as Ethereum's JSON. What differs is in docs/ethereum_tools.md."""

from collections.abc import Iterator
from typing import Any

from flock_chain.execution.blocks import Block, Header, Receipt, compute_bloom
from flock_chain.execution.machine import SYSTEM
from flock_chain.execution.transactions import (
    SYSTEM_TYPE,
    SystemTransaction,
    Transaction,
    decode_system_transaction,
    decode_transaction,
    read_signature,
)
from flock_p2p.rpc.values import data, quantity

Row = dict[str, Any]
Decoded = Transaction | SystemTransaction


def decode(raw: bytes, chain_id: int) -> Decoded:
    if raw[0] == SYSTEM_TYPE:
        return decode_system_transaction(raw)
    return decode_transaction(raw, chain_id)


def header_row(header: Header) -> Row:
    """Also what a subscription to new heads is told."""
    return {
        "number": quantity(header.height),
        "hash": data(header.id),
        "parentHash": data(header.parent_hash),
        "nonce": data(header.nonce),
        "sha3Uncles": data(header.uncles_hash),
        "logsBloom": data(header.bloom),
        "transactionsRoot": data(header.transaction_root),
        "stateRoot": data(header.state_root),
        "receiptsRoot": data(header.receipt_root),
        "miner": data(header.coinbase),
        "difficulty": quantity(header.difficulty),
        "totalDifficulty": "0x0",
        "extraData": data(header.extra_data),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "mixHash": data(header.mix_hash),
        "baseFeePerGas": quantity(header.base_fee),
        "withdrawalsRoot": data(header.withdrawals_root),
        "blobGasUsed": quantity(header.blob_gas_used),
        "excessBlobGas": quantity(header.excess_blob_gas),
        "parentBeaconBlockRoot": data(header.certificate_commitment),
    }


def block_row(block: Block, chain_id: int, *, full: bool) -> Row:
    decoded = [decode(raw, chain_id) for raw in block.transactions]
    rows = [transaction_row(row, block.header, index) if full else data(row.hash) for index, row in enumerate(decoded)]
    more = {"size": quantity(len(block.encoded)), "uncles": [], "withdrawals": [], "transactions": rows}
    return {**header_row(block.header), **more}


def transaction_row(transaction: Decoded, header: Header | None, index: int) -> Row:
    """`header`: of the final block that holds it; None while it waits for one."""
    place: Row = {
        "blockHash": None if header is None else data(header.id),
        "blockNumber": None if header is None else quantity(header.height),
        "transactionIndex": None if header is None else quantity(index),
    }
    if isinstance(transaction, SystemTransaction):
        return {**_system_row(transaction), **place}
    return {**_signed_row(transaction, header), **place}


def _system_row(transaction: SystemTransaction) -> Row:
    return {
        "type": quantity(SYSTEM_TYPE),
        "hash": data(transaction.hash),
        "chainId": quantity(transaction.chain_id),
        "nonce": quantity(transaction.index),
        "from": data(SYSTEM),
        "to": data(transaction.to),
        "value": "0x0",
        "gas": quantity(transaction.gas),
        "gasPrice": "0x0",
        "input": data(transaction.data),
        "v": "0x0",
        "r": "0x0",
        "s": "0x0",
    }


def _signed_row(transaction: Transaction, header: Header | None) -> Row:
    v, r, s = read_signature(transaction.raw)
    price = transaction.max_fee_per_gas if header is None else effective_price(transaction, header)
    row: Row = {
        "type": quantity(transaction.type_id),
        "hash": data(transaction.hash),
        "chainId": quantity(transaction.chain_id),
        "nonce": quantity(transaction.nonce),
        "from": data(transaction.sender),
        "to": data(transaction.to),
        "value": quantity(transaction.value),
        "gas": quantity(transaction.gas),
        "gasPrice": quantity(price),
        "input": data(transaction.data),
        "v": quantity(v),
        "r": quantity(r),
        "s": quantity(s),
    }
    if transaction.type_id:
        row["yParity"] = quantity(v)
        row["accessList"] = [
            {"address": data(address), "storageKeys": [data(slot.to_bytes(32, "big")) for slot in slots]}
            for address, slots in transaction.access_list
        ]
    if transaction.type_id == 2:
        row["maxFeePerGas"] = quantity(transaction.max_fee_per_gas)
        row["maxPriorityFeePerGas"] = quantity(transaction.max_priority_fee_per_gas)
    return row


def effective_tip(transaction: Decoded, header: Header) -> int:
    if isinstance(transaction, SystemTransaction):
        return 0
    return min(transaction.max_priority_fee_per_gas, transaction.max_fee_per_gas - header.base_fee)


def effective_price(transaction: Decoded, header: Header) -> int:
    return 0 if isinstance(transaction, SystemTransaction) else header.base_fee + effective_tip(transaction, header)


def receipt_rows(block: Block, receipts: tuple[Receipt, ...], chain_id: int) -> Iterator[Row]:
    """In the order of the block."""
    gas, logs = 0, 0
    for receipt, raw in zip(receipts, block.transactions, strict=True):
        gas += receipt.gas_used
        transaction = decode(raw, chain_id)
        is_system = isinstance(transaction, SystemTransaction)
        yield {
            "type": quantity(transaction.type_id if isinstance(transaction, Transaction) else SYSTEM_TYPE),
            "transactionHash": data(receipt.hash),
            "transactionIndex": quantity(receipt.index),
            "blockHash": data(block.id),
            "blockNumber": quantity(block.height),
            "from": data(SYSTEM) if is_system else data(transaction.sender),  # type: ignore[union-attr]
            "to": data(transaction.to),
            "cumulativeGasUsed": quantity(gas),
            "gasUsed": quantity(receipt.gas_used),
            "effectiveGasPrice": quantity(effective_price(transaction, block.header)),
            "contractAddress": None,
            "status": quantity(int(receipt.status)),
            "logsBloom": data(compute_bloom(receipt.logs).to_bytes(256, "big")),
            "logs": list(_log_rows(receipt, block.header, logs)),
        }
        logs += len(receipt.logs)


def log_rows(header: Header, receipts: tuple[Receipt, ...]) -> Iterator[Row]:
    """All of a block, with their numbers in it."""
    first = 0
    for receipt in receipts:
        yield from _log_rows(receipt, header, first)
        first += len(receipt.logs)


def _log_rows(receipt: Receipt, header: Header, first: int) -> Iterator[Row]:
    for number, (contract, topics, payload) in enumerate(receipt.logs, first):
        yield {
            "address": data(contract),
            "topics": [data(topic.to_bytes(32, "big")) for topic in topics],
            "data": data(payload),
            "blockNumber": quantity(header.height),
            "blockHash": data(header.id),
            "blockTimestamp": quantity(header.timestamp),
            "transactionHash": data(receipt.hash),
            "transactionIndex": quantity(receipt.index),
            "logIndex": quantity(number),
            "removed": False,
        }
