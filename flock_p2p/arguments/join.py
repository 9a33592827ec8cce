"""The arguments of `join`."""

import argparse
from pathlib import Path

from flock_p2p.arguments.command import Command, add_home, add_passphrase, base_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_home(parser)
    parser.add_argument(
        "--bootstrap",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="a running peer's address, as it prints it; may be given several times; kept for the next start",
    )
    parser.add_argument(
        "--genesis", metavar="HASH", help="refuse any network but the one with this genesis hash (64 hex digits)"
    )
    parser.add_argument(
        "--checkpoint",
        metavar="HEIGHT:HASH",
        help="a block that you trust, as `status` prints it: start from a snapshot before it, not from the genesis",
    )
    parser.add_argument(
        "--listen", metavar="IP", help="address to listen on; 127.0.0.1: this machine only (default: 0.0.0.0, all)"
    )
    parser.add_argument(
        "--port", type=int, help="TCP port to listen on, 0 for any, the same at the next start (default: 4200)"
    )
    parser.add_argument(
        "--mdns", action=argparse.BooleanOptionalAction, help="find peers of the local network, and be found (default)"
    )
    parser.add_argument(
        "--dht",
        action=argparse.BooleanOptionalAction,
        help="say and ask who has a content in a Kademlia DHT: for networks too large for a full mesh (default: no)",
    )
    parser.add_argument(
        "--relay",
        action=argparse.BooleanOptionalAction,
        help="lend peers that cannot be dialed connections through this one (default: no)",
    )
    parser.add_argument(
        "--via",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="a peer with --relay, through which others reach this one; may be given several times; kept",
    )
    parser.add_argument(
        "--guests", type=int, metavar="N", help="IPFS tools that may fetch manifests and task documents (default: 0)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="private rows: JSONL with text, prompt/completion or messages, plain text, or a folder of such files",
    )
    parser.add_argument(
        "--base",
        type=base_folder,
        metavar="FOLDER",
        help="a base model to train, and to open tasks on: a transformers folder with safetensors, or "
        "NAME@REVISION of the Hugging Face hub, from this machine's cache "
        "(default: the small one in the package); what another task is on is fetched from its peers",
    )
    parser.add_argument(
        "--max-base-bytes",
        type=int,
        metavar="BYTES",
        help="of a base model that is fetched for a task, 0 for none at all (default: what --disk-quota has room for)",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "int8", "int4"),
        help="of the base model in memory; auto: bfloat16 where the machine multiplies it, else float32 (default)",
    )
    parser.add_argument(
        "--gpus", type=int, metavar="N", help="share the base model out among so many GPUs of this machine (default: 1)"
    )
    parser.add_argument(
        "--privacy",
        metavar="NOISE:EPSILON",
        help="differential privacy of the rows: noise in clips of a row's gradient, and what may be spent at most",
    )
    parser.add_argument(
        "--checkpointing",
        action=argparse.BooleanOptionalAction,
        help="compute layers twice instead of keeping them: less memory, a third more time (default: no)",
    )
    parser.add_argument(
        "--domain",
        help="instead of --data: made or found text: python, docs, arithmetic, records, logs (default: python)",
    )
    parser.add_argument(
        "--domain-slice",
        type=int,
        metavar="N",
        help="which participant's slice of the domain, 0 to 15 (default: from the account)",
    )
    parser.add_argument("--bond", metavar="COINS", help="how much to bond to the task (default: the task's minimum)")
    parser.add_argument(
        "--task",
        type=int,
        metavar="N",
        help="take part in task N before others, also where it pays nothing or was left, once this peer is bonded in "
        "no other; 0: the one with the largest pot (default); kept",
    )
    parser.add_argument(
        "--observe",
        action=argparse.BooleanOptionalAction,
        help="follow the chain and serve contents, but bond to no task (default: no)",
    )
    parser.add_argument("--seed", type=int, help="of local training (default: from the key)")
    parser.add_argument(
        "--disk-quota",
        metavar="GB",
        help="room for adapters, proposals, fetched base models and snapshots (default: 8.6); kept for the next start",
    )
    parser.add_argument(
        "--http",
        type=int,
        metavar="PORT",
        help="serve the web page and metrics on 127.0.0.1 at this port, 0 for any, -1 for nothing (default: 4280, or "
        "any where that is taken); kept",
    )
    parser.add_argument(
        "--rpc",
        action=argparse.BooleanOptionalAction,
        help="answer Ethereum tools (web3.py, ethers, viem, wallets) at /rpc of the port of --http; kept",
    )
    parser.add_argument(
        "--rpc-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="a web page's origin, such as http://localhost:5173, that may use --rpc; may be given several times; kept",
    )
    add_passphrase(parser)
    parser.add_argument("--attack", help=argparse.SUPPRESS)
    parser.add_argument("--until-stdin-closes", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--quiet", action="store_true", help="log to the home's peer.log only")


DETAILS = (
    "Ctrl-C stops it, and the same command goes on, as does `join --home HOME` alone: what it was told is kept in "
    "HOME/peer.toml, where it can also be edited; arguments win over the file."
)

COMMAND = Command("join", "join a network, or go on where this home stopped", add_arguments, DETAILS)
