"""The JSON-RPC of a running peer over real sockets: what Ethereum tools read, and what it refuses them."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from network_support import in_trio
from prometheus_client.parser import text_string_to_metric_families
from rpc_support import BALANCE, CHAIN_ID, COIN, OTHER, USER, Served, drip, faucet_deposit, serving
from trio_websocket import ConnectionClosed, open_websocket_url

from flock_chain.crypto import Account, keccak256
from flock_chain.errors import Refused
from flock_chain.execution import records, strict_rlp
from flock_chain.execution.machine import MemoryStore
from flock_chain.execution.ordered_trie import compute_ordered_root
from flock_contracts.addresses import FAUCET
from flock_contracts.loader import load
from flock_p2p.cli import main
from flock_p2p.rpc.endpoint import MAX_BATCH, MAX_REQUEST_BYTES
from flock_p2p.rpc.errors import RpcError
from flock_p2p.rpc.logs import MAX_RANGE, parse_range
from flock_p2p.rpc.subscriptions import MAX_SUBSCRIPTIONS
from flock_p2p.web.websocket import MAX_MESSAGE_BYTES
from flock_peers.driver.driver import Driver
from flock_peers.driver.progress import SyncStatus
from flock_peers.ledger.queries import MAX_CALL_GAS, ChainView

NEWCOMER = b"\x5c" * 20
FAUCET_HEX = "0x" + FAUCET.hex()


def hexed(value: bytes) -> str:
    return "0x" + value.hex()


async def serve_newcomer(served: Served) -> dict[str, Any]:
    digest = await served.send(USER, FAUCET, drip(NEWCOMER), value=faucet_deposit(served.peer))
    return await served.receipt(digest)


def encode_receipt(row: dict[str, Any]) -> bytes:
    """From the JSON alone, as Ethereum puts it under a header's receipt root."""
    logs = [
        [bytes.fromhex(log["address"][2:]), [bytes.fromhex(topic[2:]) for topic in log["topics"]],
         bytes.fromhex(log["data"][2:])]
        for log in row["logs"]
    ]  # fmt: skip
    status = b"\x01" if row["status"] == "0x1" else b""
    body = strict_rlp.encode([status, int(row["cumulativeGasUsed"], 16), bytes.fromhex(row["logsBloom"][2:]), logs])
    return body if row["type"] == "0x0" else bytes([int(row["type"], 16)]) + body


@in_trio()
async def test_blocks_receipts_and_logs_are_those_that_the_header_commits_to(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        receipt = await serve_newcomer(served)
        block = await served.rpc("eth_getBlockByNumber", receipt["blockNumber"], True)
        assert block == await served.rpc("eth_getBlockByHash", receipt["blockHash"], True)
        rows = await served.rpc("eth_getBlockReceipts", receipt["blockNumber"])
        assert receipt in rows and len(rows) == len(block["transactions"])
        assert hexed(compute_ordered_root([encode_receipt(row) for row in rows])) == block["receiptsRoot"]
        assert rows[-1]["cumulativeGasUsed"] == block["gasUsed"]
        raw = records.read_block(served.peer.ledger.reader, int(block["number"], 16)).transactions
        assert [row["hash"] for row in block["transactions"]] == [hexed(keccak256(each)) for each in raw]
        assert [log["logIndex"] for row in rows for log in row["logs"]] == [
            hex(index) for index in range(sum(len(row["logs"]) for row in rows))
        ]
        found = await served.rpc("eth_getLogs", {"fromBlock": "earliest", "address": FAUCET_HEX})
        assert found == receipt["logs"]
        topics = found[0]["topics"]
        for wanted, is_found in (
            ([topics[0]], True), ([None, topics[1]], True), ([[topics[2], topics[0]]], True), ([topics[1]], False),
            ([*topics, topics[0]], False), ([], True),
        ):  # fmt: skip
            assert bool(
                await served.rpc("eth_getLogs", {"fromBlock": "0x0", "address": FAUCET_HEX, "topics": wanted})
            ) is (is_found), wanted
        assert await served.rpc("eth_getLogs", {"blockHash": block["hash"], "topics": topics}) == found
        transaction = await served.rpc("eth_getTransactionByHash", receipt["transactionHash"])
        assert transaction in block["transactions"] and transaction["from"] == hexed(USER.account)
        assert await served.rpc("eth_getTransactionByHash", "0x" + "00" * 32) is None


@in_trio()
async def test_calls_estimates_and_old_states(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        deposit, parameters = faucet_deposit(served.peer), served.peer.genesis.parameters
        call = {"from": hexed(USER.account), "to": FAUCET_HEX, "data": hexed(drip(NEWCOMER)), "value": hex(deposit)}
        estimate = int(await served.rpc("eth_estimateGas", call), 16)
        digest = await served.send(USER, FAUCET, drip(NEWCOMER), value=deposit, gas=estimate)
        receipt = await served.receipt(digest)
        assert receipt["status"] == "0x1" and int(receipt["gasUsed"], 16) <= estimate < 2 * int(receipt["gasUsed"], 16)
        assert int(await served.rpc("eth_estimateGas", {"to": hexed(NEWCOMER)}), 16) == 21_000
        refused = await served.rpc("eth_call", call, "latest")
        assert refused["code"] == 3 and "faucet: the submitter has a live deposit" in refused["message"]
        assert refused["data"].startswith("0x08c379a0")
        for tag in (
            "latest",
            "safe",
            "finalized",
            "pending",
            receipt["blockNumber"],
            {"blockHash": receipt["blockHash"]},
        ):
            assert int(await served.rpc("eth_getBalance", hexed(NEWCOMER), tag), 16) == parameters.faucet_amount
        assert await served.rpc("eth_getBalance", hexed(NEWCOMER), "earliest") == "0x0"
        assert (await served.rpc("eth_call", call, "0x0")) == "0x"  # at genesis nobody had been served
        assert int(await served.rpc("eth_getBalance", hexed(OTHER.account)), 16) == BALANCE
        assert (await served.rpc("eth_getCode", FAUCET_HEX, "latest")) == hexed(load("Faucet").runtime)
        assert (await served.rpc("eth_getBalance", hexed(OTHER.account), "0xffff"))["code"] == -32001
        starved = await served.rpc("eth_call", {**call, "gas": "0x100"}, "0x0")
        assert starved["code"] == -32000 and "out of gas" in starved["message"]
        huge = await served.rpc("eth_call", {**call, "gas": hex(100 * MAX_CALL_GAS)}, "0x0")
        assert huge == "0x"
        poor = await served.rpc("eth_estimateGas", {**call, "from": hexed(b"\7" * 20)})
        assert "insufficient funds" in poor["message"]
        assert "nobody deploys" in (await served.rpc("eth_call", {"data": "0x00"}))["message"]
        overridden = await served.rpc("eth_call", call, "latest", {FAUCET_HEX: {"balance": "0x1"}})
        assert overridden["code"] == -32602


@in_trio()
async def test_what_a_sender_is_refused_has_the_words_that_libraries_look_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        digest = await served.send(USER, OTHER.account, value=1, gas=21_000)
        assert digest == (await served.receipt(digest))["transactionHash"]
        assert await served.rpc("eth_getTransactionCount", hexed(USER.account), "pending") == "0x1"
        poor = await served.send(USER, OTHER.account, value=10**30, gas=21_000)
        assert poor["code"] == -32003 and "insufficient funds" in poor["message"]
        system = await served.rpc("eth_sendRawTransaction", "0x7e" + "00" * 40)
        assert system["code"] == -32003 and "0x7e" in system["message"]
        assert (await served.rpc("eth_sendRawTransaction", "0xzz"))["code"] == -32602
        assert (await served.rpc("eth_sendTransaction", {}))["code"] == -32601  # this peer signs for nobody
        assert await served.rpc("eth_accounts") == []


@in_trio()
async def test_an_order_that_its_account_cannot_pay_is_refused_in_coins(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        poor = Account(b"\x5b" * 20)
        with pytest.raises(Refused, match=r"has 0 coins, and 21\.5 are needed; .*`send --to 0x5b5b"):
            await served.peer.ledger.simulate("Faucet", "drip", NEWCOMER, sender=poor, value=21 * COIN + COIN // 2)
        wanted = {"to": hexed(NEWCOMER), "amount": str(10**9 * COIN + 1)}
        told = rf"^send 10{{9}}\.0{{17}}1 coins to {hexed(NEWCOMER)}: it may take 10{{9}}\.\d+ coins; [\d.]+ are left"
        with pytest.raises(Refused, match=told):
            await served.peer.control.methods()["send"](wanted)


class Behind:
    """A driver that executes old blocks."""

    status = SimpleNamespace(sync=SyncStatus(94, 274, 19.0, 9.5, 1))


@in_trio()
async def test_what_a_peer_refuses_while_it_catches_up_is_said_to_be_of_then(tmp_path: Path) -> None:
    """Coins that came in a later block are not seen yet, and their owner would be sent for more."""
    async with serving(tmp_path) as served:
        control = replace(served.peer.control, driver=cast(Driver, Behind()))
        wanted = {"to": hexed(NEWCOMER), "amount": str(10**9 * COIN)}
        with pytest.raises(Refused, match="; that is as of block 94 of 274: this peer is still catching up"):
            await control.methods()["send"](wanted)
        assert (await control.methods()["send"](wanted | {"amount": "1"}))["sent"]


@in_trio()
async def test_filters_tell_what_is_new_and_end(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        logs, blocks = (
            await served.rpc("eth_newFilter", {"address": FAUCET_HEX}),
            await served.rpc("eth_newBlockFilter"),
        )
        assert await served.rpc("eth_getFilterChanges", logs) == []
        receipt = await serve_newcomer(served)
        assert await served.rpc("eth_getFilterChanges", logs) == receipt["logs"]
        assert await served.rpc("eth_getFilterChanges", logs) == []
        assert receipt["blockHash"] in await served.rpc("eth_getFilterChanges", blocks)
        assert await served.rpc("eth_uninstallFilter", logs) is True
        assert (await served.rpc("eth_getFilterChanges", logs))["code"] == -32001
        assert await served.rpc("eth_uninstallFilter", logs) is False


@in_trio()
async def test_what_is_no_request_or_above_a_limit_is_refused_by_its_number(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:

        async def ask(body: bytes) -> Any:
            return json.loads((await served.post(body)).body)

        one = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
        for body, code in (
            (b"{", -32700), (b"[" * 100, -32700), (b"[]", -32600), (b"7", -32600), (b"{}", -32600),
            (json.dumps({**one, "jsonrpc": "1.0"}).encode(), -32600),
            (json.dumps({**one, "params": {}}).encode(), -32602),
            (json.dumps({**one, "params": [1]}).encode(), -32602),
            (json.dumps([one] * (MAX_BATCH + 1)).encode(), -32600),
        ):  # fmt: skip
            assert (await ask(body))["error"]["code"] == code, body
        both = await ask(
            json.dumps([one, {**one, "id": 2, "method": "no"}, {"jsonrpc": "2.0", "method": "eth_chainId"}]).encode()
        )
        assert [row["id"] for row in both] == [1, 2] and both[0]["result"] == hex(CHAIN_ID)
        assert both[1]["error"]["code"] == -32601
        silent = await served.post(json.dumps({"jsonrpc": "2.0", "method": "eth_chainId"}).encode())
        assert (silent.status, silent.body) == (204, b"")
        assert (await served.post(b" " * (MAX_REQUEST_BYTES + 1))).status == 413
        wide = await served.rpc("eth_getLogs", {"fromBlock": "0x0", "toBlock": hex(MAX_RANGE)})
        assert wide == []  # what is not final yet is no block to read
        assert (await served.rpc("eth_getLogs", {"address": [FAUCET_HEX] * 101}))["code"] == -32005
        flood = await ask(
            json.dumps(
                [{**one, "method": "eth_estimateGas", "params": [{"to": FAUCET_HEX, "gas": "0x1"}]}] * 100
            ).encode()
        )
        more = [
            await ask(json.dumps([one | {"method": "eth_feeHistory", "params": ["0x1", "latest"]}] * 100).encode())
            for _ in range(8)
        ]
        each = [row for rows in (flood, *more) for row in (rows if isinstance(rows, list) else [rows])]
        codes = {row["error"]["code"] for row in each if "error" in row}
        assert -32005 in codes


@in_trio()
async def test_strangers_pages_are_kept_out_and_wallets_are_not(tmp_path: Path) -> None:
    async with serving(tmp_path, origins=("http://localhost:5173",)) as served:
        body = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}'
        assert (await served.post(body)).status == 200
        assert (await served.post(body, host=f"evil.example:{served.port}")).status == 421  # DNS rebinding
        assert (await served.post(body, host="127.0.0.1")).status == 421
        assert (await served.post(body, origin="https://evil.example")).status == 403
        assert (await served.post(body, origin="null")).status == 403
        assert (await served.post(body, content_type="text/plain")).status == 400  # what a page may send unasked
        for origin in ("http://localhost:5173", "chrome-extension://nkbihfbeogaeaoehlefnkodbefgpgknn"):
            answer = await served.post(body, origin=origin)
            assert answer.status == 200 and answer.headers["access-control-allow-origin"] == origin
            ahead = await served.request("OPTIONS", "/rpc", origin=origin)
            assert ahead.status == 204 and "POST" in ahead.headers["access-control-allow-methods"]
        assert (await served.request("GET", "/rpc")).status == 405
        assert (await served.request("GET", "/nothing")).status == 404
        with_socket = {"upgrade": "websocket", "connection": "Upgrade", "sec_websocket_version": "13"}
        named = {**with_socket, "sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ=="}
        assert (await served.request("GET", "/rpc", origin="https://evil.example", **named)).status == 403


@in_trio()
async def test_a_peer_goes_on_and_ends_while_somebody_holds_or_breaks_connections(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        streams = [await trio.open_tcp_stream("127.0.0.1", served.port) for _ in range(20)]
        for stream, data in zip(
            streams, (b"\0\xff" * 100, b"GET / HTTP/9.9\r\n\r\n", b"POST /rpc HTTP/1.1\r\n"), strict=False
        ):
            await stream.send_all(data)
        assert await served.rpc("eth_chainId") == hex(CHAIN_ID)
        # Streams are left open: the server must end without them.


@in_trio()
async def test_a_socket_follows_heads_and_logs_within_its_limits(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, open_websocket_url(served.ws, max_message_size=1 << 24) as socket:

        async def ask(method: str, *params: Any) -> Any:
            await socket.send_message(json.dumps({"jsonrpc": "2.0", "id": 9, "method": method, "params": params}))
            answer = json.loads(await socket.get_message())
            return answer.get("result", answer.get("error"))

        heads = await ask("eth_subscribe", "newHeads")
        logs = await ask("eth_subscribe", "logs", {"address": FAUCET_HEX})
        other = await ask("eth_subscribe", "logs", {"address": "0x" + "11" * 20})
        receipt = await serve_newcomer(served)
        told: dict[str, list[Any]] = {heads: [], logs: [], other: []}
        while not told[logs]:
            message = json.loads(await socket.get_message())["params"]
            told[message["subscription"]].append(message["result"])
        assert told[logs] == receipt["logs"] and told[other] == []
        assert told[heads][-1]["hash"] == receipt["blockHash"]
        assert [int(row["number"], 16) for row in told[heads]] == list(range(1, 1 + len(told[heads])))
        assert await ask("eth_unsubscribe", heads) is True and await ask("eth_unsubscribe", heads) is False
        made = [await ask("eth_subscribe", "newHeads") for _ in range(MAX_SUBSCRIPTIONS - 1)]
        assert made[-2].startswith("0x") and made[-1]["code"] == -32005
        assert (await ask("eth_subscribe", "newPendingTransactions"))["code"] == -32602
        await socket.send_message(" " * (MAX_MESSAGE_BYTES + 1))
        with pytest.raises(ConnectionClosed):
            while True:
                await socket.get_message()
        assert await served.rpc("eth_chainId") == hex(CHAIN_ID)


@in_trio()
async def test_metrics_say_what_status_says_and_need_no_rpc(tmp_path: Path) -> None:
    async with serving(tmp_path, rpc=False) as served:
        assert (await served.post(b"{}")).status == 404
        answer = await served.request("GET", "/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = {row.name: row for row in text_string_to_metric_families(answer.body.decode())}
        status = await served.peer.control.status({})
        assert families["flock_height"].samples[0].value == status["height"]
        assert families["flock_info"].samples[0].labels["account"] == status["account"]
        assert families["flock_balance_coins"].samples[0].value == int(status["balance"]) / 10**18
        assert families["process_resident_memory_bytes"].samples[0].value > 10 << 20
        assert families["flock_http_responses"].samples[0].labels == {"status": "404"}
        assert (await served.request("GET", "/metrics", origin="https://evil.example")).status == 403


def test_a_range_of_too_many_blocks_is_refused_before_any_is_read() -> None:
    view = ChainView(reader=MemoryStore(), caller=None, chain_id=1, head=10 * MAX_RANGE, now=0)  # type: ignore[arg-type]
    assert parse_range({"fromBlock": hex(MAX_RANGE), "toBlock": hex(2 * MAX_RANGE - 1)}, view) == range(2_000, 4_000)
    for wanted in ({"fromBlock": "0x0"}, {"fromBlock": "earliest", "toBlock": hex(MAX_RANGE)}):
        with pytest.raises(RpcError, match=f"at most {MAX_RANGE}"):
            parse_range(wanted, view)
    with pytest.raises(RpcError, match="ends before"):
        parse_range({"fromBlock": "0x5", "toBlock": "0x4"}, view)


def test_the_abi_of_every_contract_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["abi"]) == 0
    every = json.loads(capsys.readouterr().out)
    assert every["Faucet"]["address"] == FAUCET_HEX
    assert main(["abi", "Stake"]) == 0
    assert json.loads(capsys.readouterr().out) == every["Stake"]["abi"]
    with pytest.raises(SystemExit, match="2"):
        main(["abi", "taskboard"])
    assert "did you mean TaskBoard?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"), [(["--http", "70000"], "--http"), (["--rpc-origin", "localhost"], "--rpc-origin")]
)
def test_a_wrong_port_or_origin_is_refused_before_anything_is_contacted(
    tmp_path: Path, arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["join", "--home", str(tmp_path), "--quiet", "--no-mdns", *arguments]) == 2
    assert named in capsys.readouterr().err
