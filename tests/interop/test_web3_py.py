"""web3.py uses a running peer: read, call, send, decode a revert, follow logs and new blocks by WebSocket."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import trio
from network_support import in_trio
from rpc_support import BALANCE, CHAIN_ID, USER, faucet_deposit, serving

from flock_contracts.addresses import FAUCET
from flock_contracts.loader import load

web3 = pytest.importorskip("web3", reason="web3.py is not installed (pip install -e '.[dev]')")
pytestmark = pytest.mark.slow
NEWCOMER = "0x" + "5b" * 20
REFUSAL = "faucet: the value is not the deposit"


def use(url: str, deposit: int) -> dict[str, Any]:
    """As a script would, in a thread."""
    client = web3.Web3(web3.HTTPProvider(url))
    account = client.eth.account.from_key(USER.secret)
    faucet = client.eth.contract(address=web3.Web3.to_checksum_address(FAUCET), abi=load("Faucet").abi)
    newcomer = web3.Web3.to_checksum_address(NEWCOMER)
    said: dict[str, Any] = {"connected": client.is_connected(), "chain": client.eth.chain_id}
    said["balance"], said["amount"] = client.eth.get_balance(account.address), faucet.functions.amount().call()
    try:
        faucet.functions.drip(newcomer).call({"from": account.address, "value": 1})
    except web3.exceptions.ContractLogicError as error:
        said["refused"] = str(error)
    polled = faucet.events.Dripped.create_filter(from_block="latest")
    call = {"from": account.address, "value": deposit, "nonce": client.eth.get_transaction_count(account.address)}
    signed = account.sign_transaction(faucet.functions.drip(newcomer).build_transaction(call))
    said["hash"] = client.eth.send_raw_transaction(signed.raw_transaction)
    receipt = client.eth.wait_for_transaction_receipt(said["hash"], poll_latency=0.05)
    said["receipt"], said["block"] = receipt, client.eth.get_block(receipt["blockNumber"], full_transactions=True)
    said["event"] = faucet.events.Dripped().process_receipt(receipt)[0]["args"]["newcomer"]
    said["logs"] = [row["args"]["newcomer"] for row in faucet.events.Dripped.get_logs(from_block=0)]
    said["polled"] = [row["args"]["newcomer"] for row in polled.get_new_entries()]
    said["served"] = client.eth.get_balance(newcomer)
    said["final"] = client.eth.get_block("finalized")["number"] >= receipt["blockNumber"]
    said["fees"] = client.eth.fee_history(3, "latest", [50])
    return said


async def follow(ws: str, ready: Any, topic: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first head and the first log after `ready` was told."""
    head, log = None, None
    async with web3.AsyncWeb3(web3.WebSocketProvider(ws)) as client:
        heads = await client.eth.subscribe("newHeads")
        await client.eth.subscribe("logs", {"address": web3.Web3.to_checksum_address(FAUCET), "topics": [topic]})
        ready()
        async for message in client.socket.process_subscriptions():
            is_head = message["subscription"] == heads
            head, log = (head or message["result"], log) if is_head else (head, log or message["result"])
            if head is not None and log is not None:
                return head, log
    raise AssertionError("the socket ended")


@in_trio(60)
async def test_web3_py_connects_reads_sends_and_follows(tmp_path: Path) -> None:
    topic = web3.Web3.keccak(text="Dripped(address,address,uint256,uint256)").to_0x_hex()
    async with serving(tmp_path) as served, trio.open_nursery() as nursery:
        ready, followed = trio.Event(), trio.Event()
        told: dict[str, Any] = {}

        async def listen() -> None:
            token = trio.lowlevel.current_trio_token()
            told["head"], told["log"] = await trio.to_thread.run_sync(
                lambda: asyncio.run(follow(served.ws, lambda: token.run_sync_soon(ready.set), topic)),
                abandon_on_cancel=True,
            )
            followed.set()

        nursery.start_soon(listen)
        await ready.wait()
        said = await trio.to_thread.run_sync(use, served.url, faucet_deposit(served.peer), abandon_on_cancel=True)
        await followed.wait()
        amount = served.peer.genesis.parameters.faucet_amount
        assert said["connected"] and said["chain"] == CHAIN_ID
        assert (said["balance"], said["amount"]) == (BALANCE, amount) and REFUSAL in said["refused"]
        receipt, block = said["receipt"], said["block"]
        assert receipt["status"] == 1 and said["served"] == amount and said["final"]
        assert block["transactions"][0]["type"] == 0x7E
        assert block["transactions"][receipt["transactionIndex"]]["hash"] == said["hash"] == receipt["transactionHash"]
        assert [row.lower() for row in (said["event"], *said["logs"], *said["polled"])] == [NEWCOMER] * 3
        assert len(said["fees"]["baseFeePerGas"]) == len(said["fees"]["reward"]) + 1
        assert told["head"]["number"] >= 1 and told["log"]["transactionHash"] == said["hash"]
