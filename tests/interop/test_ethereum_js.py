"""ethers v6 and viem use a running peer: read, call, send, decode a revert, follow logs and new blocks by WebSocket."""

import json
from pathlib import Path
from typing import Any

import pytest
from interop_support import install, run_node
from network_support import in_trio
from rpc_support import BALANCE, CHAIN_ID, USER, Served, faucet_deposit, serving

from flock_contracts.addresses import FAUCET
from flock_contracts.loader import load

pytestmark = pytest.mark.slow
NEWCOMER = "0x" + "5a" * 20
REFUSAL = "faucet: the value is not the deposit"


async def use(script: str, served: Served, folder: Path) -> dict[str, Any]:
    abi = folder / "faucet.json"
    abi.write_text(json.dumps(load("Faucet").abi))
    secret, contract = "0x" + USER.secret.hex(), "0x" + FAUCET.hex()
    deposit = str(faucet_deposit(served.peer))
    reports = await run_node(install(script), served.url, served.ws, secret, contract, str(abi), NEWCOMER, deposit)
    return {name: value for report in reports for name, value in report.items()}


@in_trio(150)
async def test_ethers_connects_reads_sends_and_follows(tmp_path: Path) -> None:
    install()
    async with serving(tmp_path / "home") as served:
        said = await use("ethers.mjs", served, tmp_path)
        parameters = served.peer.genesis.parameters
        assert int(said["chain"]) == CHAIN_ID and said["client"].startswith("flock-p2p/v")
        assert int(said["balance"]) == BALANCE and int(said["amount"]) == parameters.faucet_amount
        assert said["refused"] == said["estimate"] == REFUSAL
        assert said["code"] == "CALL_EXCEPTION" and said["action"] == "estimateGas"
        receipt = await served.receipt(said["hash"])
        assert said["status"] == 1 and said["type"] == 2 and int(said["gasUsed"]) == int(receipt["gasUsed"], 16)
        assert said["types"][0] == 0x7E and said["types"][said["index"]] == 2  # the system's calls are parsed, too
        assert said["from"] == said["named"] and said["from"].lower() == "0x" + USER.account.hex()
        assert int(said["served"]) == parameters.faucet_amount
        assert said["failed"] == "CALL_EXCEPTION" and said["reverted"] == 0
        assert said["logs"] == [{"who": said["logs"][0]["who"], "amount": str(parameters.faucet_amount)}]
        assert said["logs"][0]["who"].lower() == NEWCOMER
        assert int(said["fee"]) >= 1
        assert (said["nonce"], said["funds"]) == ("NONCE_EXPIRED", "INSUFFICIENT_FUNDS"), said[
            "message"
        ]  # by the words of our refusals
        assert said["followed"][0]["hash"] == said["hash"] and said["height"] in said["heads"]
        assert said["heads"] == sorted(set(said["heads"]))


@in_trio(150)
async def test_viem_connects_reads_sends_and_follows(tmp_path: Path) -> None:
    install()
    async with serving(tmp_path / "home") as served:
        said = await use("viem.mjs", served, tmp_path)
        parameters = served.peer.genesis.parameters
        assert said["chain"] == CHAIN_ID and int(said["balance"]) == BALANCE
        assert int(said["amount"]) == parameters.faucet_amount and said["refused"] == REFUSAL
        receipt = await served.receipt(said["hash"])
        assert (said["status"], said["type"]) == ("success", "eip1559")
        assert int(said["gasUsed"]) == int(receipt["gasUsed"], 16) and said["types"][0] == "0x7e"
        assert int(said["served"]) == parameters.faucet_amount and said["failed"] == "reverted"
        assert [row["who"].lower() for row in said["logs"]] == [NEWCOMER]
        assert (said["fees"], said["rewards"]) == (5, 4) or said["fees"] == said["rewards"] + 1
        assert said["polled"] >= 1
        assert said["followed"][0]["hash"] == said["hash"] and said["height"] in said["heads"]
