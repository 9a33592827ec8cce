"""What the JSON-RPC grants one caller: time, bytes, filters; on a clock of the tests. And what wallets send."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from network_support import in_trio
from rpc_support import CHAIN_ID, USER, serving
from web_support import on_virtual_clock

from flock_chain.execution.transactions import sign_call
from flock_p2p.rpc import logs
from flock_p2p.rpc.endpoint import (
    BURST_CALLS,
    CALL_SECONDS,
    CALLS_PER_SECOND,
    MAX_BATCH,
    MAX_REQUEST_BYTES,
    Endpoint,
)
from flock_p2p.rpc.errors import LIMIT_EXCEEDED, RESOURCE_NOT_FOUND, RpcError
from flock_p2p.rpc.filters import IDLE_SECONDS, MAX_FILTERS, Filters
from flock_p2p.rpc.logs import MASKS_KEPT, MAX_ALTERNATIVES, MAX_TOPICS, MAX_WANTED, find_logs, parse_criteria
from flock_p2p.rpc.subscriptions import Follower
from flock_p2p.rpc.values import parse_call
from flock_p2p.web.server import MAX_CONNECTIONS

ONE = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"}


async def at_once(_name: str, _parameters: Any) -> str:
    return "0x1"


def make_endpoint() -> Endpoint:
    return Endpoint(lambda: 0.0)


async def ask(endpoint: Endpoint, request: Any, call: Any = at_once) -> Any:
    answer = await endpoint.answer(json.dumps(request).encode(), call)
    return None if answer is None else json.loads(answer)


# ---- the endpoint


@on_virtual_clock
async def test_a_batch_has_as_much_time_as_one_call() -> None:
    async def slowly(_name: str, _parameters: Any) -> str:
        await trio.sleep(CALL_SECONDS * 0.4)
        return "0x1"

    rows = await ask(make_endpoint(), [ONE] * 10, slowly)
    assert trio.current_time() <= CALL_SECONDS + 0.01
    assert ["result" in row for row in rows] == [True] * 2 + [False] * 8
    assert {row["error"]["code"] for row in rows[2:]} == {LIMIT_EXCEEDED}


@on_virtual_clock
async def test_large_requests_use_up_the_rate_also_where_they_are_no_json() -> None:
    """Parsing them is what they cost."""
    endpoint, junk = make_endpoint(), b"[" * 15 + b'"' + b"a" * (MAX_REQUEST_BYTES - 100)
    codes = [json.loads(await endpoint.answer(junk, at_once) or b"")["error"]["code"] for _ in range(20)]
    assert codes[0] == -32700 and codes[-1] == LIMIT_EXCEEDED
    assert endpoint.counts["limited"] > 0
    await trio.sleep(BURST_CALLS / CALLS_PER_SECOND)
    assert (await ask(endpoint, ONE))["result"] == "0x1"


@on_virtual_clock
async def test_batches_of_what_is_no_call_use_up_the_rate_and_are_then_refused_whole() -> None:
    endpoint = make_endpoint()
    answers = [await ask(endpoint, [{}] * MAX_BATCH) for _ in range(5 * BURST_CALLS // MAX_BATCH)]
    whole = [answer for answer in answers if isinstance(answer, dict)]
    assert len(answers) - len(whole) <= BURST_CALLS // MAX_BATCH + 1 and len(answers[0]) == MAX_BATCH
    assert {answer["error"]["code"] for answer in whole} == {LIMIT_EXCEEDED}
    await trio.sleep((BURST_CALLS + MAX_BATCH) / CALLS_PER_SECOND)
    assert "result" in await ask(endpoint, ONE)


@on_virtual_clock
async def test_what_long_calls_took_is_taken_from_the_rate() -> None:
    """So that those of a contract that runs for ever get a fifth of a core, whatever their number says."""
    taken = [0.0]
    endpoint = Endpoint(lambda: taken[0])
    assert "result" in await ask(endpoint, ONE)
    taken[0] = 10.0
    assert (await ask(endpoint, ONE))["error"]["code"] == LIMIT_EXCEEDED
    await trio.sleep(40.0)
    assert (await ask(endpoint, ONE))["error"]["code"] == LIMIT_EXCEEDED
    await trio.sleep(10.0)
    assert "result" in await ask(endpoint, ONE)


@pytest.mark.parametrize("identity", ["NaN", "1e999", "-Infinity", "[1]", "{}"])
def test_an_identity_that_json_does_not_have_is_not_said_back(identity: str) -> None:
    async def run() -> None:
        body = b'{"jsonrpc":"2.0","method":"eth_chainId","id":' + identity.encode() + b"}"
        answer = await make_endpoint().answer(body, at_once)

        def refuse(name: str) -> Any:
            raise AssertionError(f"{name} is no JSON")

        row = json.loads(answer or b"", parse_constant=refuse)
        assert row["id"] is None and row["error"]["code"] == -32600

    trio.run(run)


# ---- filters


@on_virtual_clock
async def test_a_connection_follows_no_more_addresses_and_topics_than_one_question_may_name() -> None:
    """Each is kept, and looked for in each block."""
    follower = Follower(None, None)  # type: ignore[arg-type]

    async def follow(topics: int) -> str:
        names = [f"0x{number:064x}" for number in range(topics)]
        places = [names[first : first + MAX_ALTERNATIVES] for first in range(0, topics, MAX_ALTERNATIVES)]
        try:
            return str(await follower.call("eth_subscribe", ["logs", {"topics": places}]))
        except RpcError as error:
            return str(error.code)
        finally:
            follower.activate()

    most = MAX_TOPICS * MAX_ALTERNATIVES
    first = await follow(most)
    assert first.startswith("0x")
    assert await follow(MAX_WANTED - most + 1) == str(LIMIT_EXCEEDED)
    assert (await follow(MAX_WANTED - most)).startswith("0x") and (await follow(0)).startswith("0x")
    assert await follow(1) == str(LIMIT_EXCEEDED)
    assert MAX_CONNECTIONS * MAX_WANTED <= MASKS_KEPT
    assert await follower.call("eth_unsubscribe", [first]) and (await follow(most)).startswith("0x")


@on_virtual_clock
async def test_a_filter_that_nobody_polls_is_dropped_and_makes_room() -> None:
    filters = Filters()
    polled = filters.add(None, 0)
    for _ in range(MAX_FILTERS - 1):
        filters.add({}, 0)
    with pytest.raises(RpcError, match="exist already"):
        filters.add({}, 0)
    await trio.sleep(IDLE_SECONDS - 1)
    assert filters.get(polled).told == 0
    await trio.sleep(2)
    fresh = filters.add({}, 7)  # the others' time is over
    assert filters.get(polled) and filters.get(fresh).told == 7
    await trio.sleep(IDLE_SECONDS)
    for name in (polled, fresh, "0x00", 7, None):
        with pytest.raises(RpcError) as refused:
            filters.get(name)
        assert refused.value.code == RESOURCE_NOT_FOUND


@on_virtual_clock
async def test_of_a_filter_its_range_alone_is_kept_and_that_is_bounded() -> None:
    filters = Filters()
    for wanted in ({"fromBlock": "0x" + "1" * 10**6}, {"toBlock": ["x"] * 10**5}, {"blockHash": {"a": 1}}):
        with pytest.raises(RpcError):
            filters.add(wanted, 0)
    name = filters.add({"fromBlock": "0x1", "toBlock": None, "topics": [None], "address": "0x" + "11" * 20}, 0)
    assert filters.get(name).wanted == {"fromBlock": "0x1"}


@dataclass
class Crowded:
    """A chain that logs so much in each block."""

    head: int
    logs_of_each: int


def count_logs(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(logs, "MAX_LOGS", most)
    monkeypatch.setattr(logs, "log_rows", lambda header, _receipts: [{"at": header}] * 3)
    monkeypatch.setattr(logs.Criteria, "fits", lambda _self, _row: True)
    monkeypatch.setattr(logs.Criteria, "may_be_in", lambda _self, _header: True)


class View:
    head = 100

    def header(self, height: int) -> int:
        return height

    def receipts(self, _height: int) -> tuple[()]:
        return ()


@on_virtual_clock
@pytest.mark.parametrize("most", [2, 10, 1_000])
async def test_a_filter_with_more_logs_than_one_answer_has_room_for_is_told_in_several(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Whoever polls it cannot ask for fewer blocks: it would never get on."""
    count_logs(monkeypatch, most)
    view: Any = View()
    with pytest.raises(RpcError):
        find_logs(view, parse_criteria({}), range(1, 1 + most))
    row = (filters := Filters()).get(filters.add({}, 0))
    told = []
    while row.told < view.head:
        row.told, found = row.changes(view)
        assert 0 < len(found) <= max(3, most)
        told += [entry["at"] for entry in found]  # type: ignore[index]
    assert told == [height for height in range(1, 101) for _ in range(3)]


# ---- wallets


@in_trio()
async def test_what_metamask_asks_to_add_a_network_show_a_balance_and_send(tmp_path: Any) -> None:
    """The calls of its controllers, in their forms, as its extension sends them; MetaMask itself is not run."""
    async with serving(tmp_path) as served:
        origin = "chrome-extension://nkbihfbeogaeaoehlefnkodbefgpgknn"

        async def rpc(method: str, *params: Any) -> Any:
            body = json.dumps({"id": 4_398_046_511_104, "jsonrpc": "2.0", "method": method, "params": list(params)})
            more = {"accept": "application/json", "sec_fetch_site": "none", "sec_fetch_mode": "cors"}
            answer = json.loads((await served.post(body.encode(), origin=origin, **more)).body)
            assert "error" not in answer, (method, answer)
            return answer["result"]

        account, other = "0x" + USER.account.hex(), "0x" + "5e" * 20
        assert await rpc("eth_chainId") == hex(CHAIN_ID) and await rpc("net_version") == str(CHAIN_ID)
        await served.receipt(await served.send(USER, b"\x5d" * 20, value=1, gas=21_000))  # so that there are blocks
        # Block tracker, account tracker, and whether fees are those of EIP-1559.
        latest = await rpc("eth_blockNumber")
        block = await rpc("eth_getBlockByNumber", latest, False)
        assert block["number"] == latest and int(block["baseFeePerGas"], 16) > 0
        assert int(await rpc("eth_getBalance", account, latest), 16) > 0
        # Fees: of the last blocks, else by price.
        history = await rpc("eth_feeHistory", "0x5", latest, [10, 20, 30])
        assert len(history["baseFeePerGas"]) == len(history["gasUsedRatio"]) + 1
        assert all(len(row) == 3 for row in history["reward"])
        assert int(await rpc("eth_gasPrice"), 16) == int(block["baseFeePerGas"], 16)
        # A transaction: is the receiver a contract, how much gas, which nonce; then sent and followed.
        assert await rpc("eth_getCode", other, latest) == "0x"
        noted = {"from": account, "to": other, "value": "0x5", "gasLimit": "0x5208", "type": "0x2", "nonce": "0x1"}
        assert int(await rpc("eth_estimateGas", noted), 16) == 21_000
        nonce = int(await rpc("eth_getTransactionCount", account, latest), 16)
        assert nonce == int(await rpc("eth_getTransactionCount", account, "pending"), 16)
        tip, fee = 1_500_000_000, 1_500_000_000 + 2 * int(block["baseFeePerGas"], 16)
        raw = sign_call(
            USER, chain_id=CHAIN_ID, nonce=nonce, to=bytes.fromhex(other[2:]), data=b"", value=5, gas=31_500, fee=fee,
            tip=tip,
        )  # fmt: skip
        digest = await rpc("eth_sendRawTransaction", "0x" + raw.hex())
        while (receipt := await rpc("eth_getTransactionReceipt", digest)) is None:
            assert (await rpc("eth_getTransactionByHash", digest))["hash"] == digest
            await trio.sleep(0.02)
        assert receipt["status"] == "0x1" and int(receipt["effectiveGasPrice"], 16) > 0
        assert (await rpc("eth_getBlockByHash", receipt["blockHash"], False))["timestamp"]
        assert await rpc("eth_getBalance", other, "latest") == "0x5"


def test_notes_of_a_wallet_are_passed_over_and_what_would_change_the_call_is_refused() -> None:
    call = {"to": "0x" + "11" * 20}
    assert parse_call({**call, "gasLimit": "0x5208", "estimateUsed": "0x1"}) == parse_call(call)
    for unknown in ("authorizationList", "blobVersionedHashes", "too"):
        with pytest.raises(RpcError, match=unknown):
            parse_call({**call, unknown: []})


@in_trio()
async def test_a_fee_history_of_a_negative_number_of_blocks_is_refused_in_words(tmp_path: Any) -> None:
    async with serving(tmp_path) as served:
        for count in (-1, -(10**30), 0, "0x0"):
            assert (await served.rpc("eth_feeHistory", count, "latest", []))["code"] == -32602
