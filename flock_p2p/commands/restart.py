"""`restart`: go on with a chain that has halted because a third of the weight or more is gone for good."""

import argparse

from flock_chain.crypto import Account
from flock_chain.errors import Misuse
from flock_chain.restart import MAX_DOCUMENT_BYTES
from flock_p2p.cli import format_coins, parse_account
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
        return _propose(home, arguments) if arguments.action == "propose" else _apply(home, arguments)


def _propose(home: Home, arguments: argparse.Namespace) -> int:
    if not arguments.without or arguments.hash is not None:
        raise Misuse("restart propose: name who is gone, by --without ACCOUNT, once for each; and no --hash")
    genesis = home.load_genesis()
    halt = read_halt(home, genesis)
    restart = propose_restart(genesis, halt, [Account(parse_account(text)) for text in arguments.without])
    kept = halt.weight(restart.keep)
    write_new(arguments.document, restart.encode())
    print(f"network   {genesis.network}, genesis {genesis.hash.hex()}")
    print(f"goes on   after height {halt.height}, block {halt.block_id.hex()}")
    print(
        f"with      {len(restart.keep)} of {plural(len(halt.validators), 'validator')}, "
        f"{format_coins(kept)} of {format_coins(halt.validators.total)} coins of weight"
    )
    for account in restart.keep:
        print(f"          0x{account.hex()}")
    print(f"document  {arguments.document}")
    print(f"hash      {restart.hash.hex()}\n\n{GIVES_UP}\n")
    print("Nothing has changed yet. Every operator compares height and block, agrees on the hash, and runs")
    print(f"python -m flock_p2p restart apply --home HOME --document FILE --hash {restart.hash.hex()}")
    return 0


def _apply(home: Home, arguments: argparse.Namespace) -> int:
    if arguments.hash is None or arguments.without:
        raise Misuse("restart apply: give the hash that the operators agreed on, by --hash, and no --without")
    try:
        with arguments.document.open("rb") as file:
            data = file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise Misuse(f"{arguments.document}: {error.strerror}") from error
    restart = apply_restart(home, data, arguments.hash)
    print(f"installed restart document {restart.hash.hex()}")
    decide = "decides" if len(restart.keep) == 1 else "decide"
    print(f"From height {restart.height + 1} on {plural(len(restart.keep), 'validator')} {decide}.")
    print("Start the peer with `join`.")
    print("Keep the document: whoever joins later needs it too.")
    return 0
