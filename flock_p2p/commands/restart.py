"""`restart`: go on with a chain that has halted because a third of the weight or more is gone for good."""

import argparse
import json
from typing import Any

from flock_chain.crypto import Account
from flock_chain.errors import Misuse
from flock_chain.restart import MAX_DOCUMENT_BYTES, Restart
from flock_p2p.cli import parse_account
from flock_peers.coins import count_coins, format_exact
from flock_peers.home import Home, write_new
from flock_peers.plural import plural
from flock_peers.restarts import apply_restart, propose_restart, read_halt

GIVES_UP = """\
What a restart gives up: a block above this height may be final for somebody who is gone; it will not be part of this
history. Who does not install the same document follows nothing after this height. The set that goes on is trusted
because its operators say so, no longer because of a quorum. Who is left out is jailed, not slashed, may come back."""


def run(arguments: argparse.Namespace) -> int:
    home = Home(arguments.home)
    home.load_genesis()  # says what is missing before the lock makes a folder
    with home.lock():
        found = _propose(home, arguments) if arguments.action == "propose" else _apply(home, arguments)
    told = format_proposal if arguments.action == "propose" else format_applied
    print(json.dumps(found, indent=2) if arguments.json else told(found))
    return 0


def _propose(home: Home, arguments: argparse.Namespace) -> dict[str, Any]:
    if not arguments.without or arguments.hash is not None:
        raise Misuse("restart propose: name who is gone, by --without ACCOUNT, once for each; and no --hash")
    genesis = home.load_genesis()
    halt = read_halt(home, genesis)
    restart = propose_restart(genesis, halt, [Account(parse_account(text)) for text in arguments.without])
    write_new(arguments.document, restart.encode())
    return _to_row(restart) | {
        "network": genesis.network,
        "genesis": genesis.hash.hex(),
        "height": halt.height,
        "block": halt.block_id.hex(),
        "validators": len(halt.validators),
        "weight_kept": str(halt.weight(restart.keep)),
        "weight": str(halt.validators.total),
        "document": str(arguments.document),
    }


def _to_row(restart: Restart) -> dict[str, Any]:
    accounts = ["0x" + account.hex() for account in restart.keep]
    return {"hash": restart.hash.hex(), "height": restart.height, "keep": accounts}


def format_proposal(row: dict[str, Any]) -> str:
    kept, total = format_exact(int(row["weight_kept"])), count_coins(int(row["weight"]))
    who = f"{len(row['keep'])} of {plural(row['validators'], 'validator')}"
    return "\n".join([
        f"network   {row['network']}, genesis {row['genesis']}",
        f"goes on   after height {row['height']}, block {row['block']}",
        f"with      {who}, {kept} of {total} of weight",
        *(f"          {account}" for account in row["keep"]),
        f"document  {row['document']}",
        f"hash      {row['hash']}\n\n{GIVES_UP}\n",
        "Nothing has changed yet. Every operator compares height and block, agrees on the hash, and runs",
        f"python -m flock_p2p restart apply --home HOME --document FILE --hash {row['hash']}",
    ])  # fmt: skip


def _apply(home: Home, arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.hash is None or arguments.without:
        raise Misuse("restart apply: give the hash that the operators agreed on, by --hash, and no --without")
    try:
        with arguments.document.open("rb") as file:
            data = file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise Misuse(f"{arguments.document}: {error.strerror}") from error
    return _to_row(apply_restart(home, data, arguments.hash))


def format_applied(row: dict[str, Any]) -> str:
    decide = "decides" if len(row["keep"]) == 1 else "decide"
    return "\n".join([
        f"installed restart document {row['hash']}",
        f"From height {row['height'] + 1} on {plural(len(row['keep']), 'validator')} {decide}.",
        "Start the peer with `join`.",
        "Keep the document: whoever joins later needs it too.",
    ])  # fmt: skip
