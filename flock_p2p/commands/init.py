"""`init`: a home and its key, and the genesis of a new network."""

import argparse
import json
import secrets
import shlex
import time
from collections.abc import Sequence
from typing import Any

from flock_chain.crypto import Key
from flock_chain.errors import Misuse, Refused
from flock_chain.genesis import Genesis
from flock_chain.parameters import DEFAULT, DEMO, Parameters
from flock_p2p.cli import parse_coins
from flock_p2p.founding import (
    BALANCE,
    FAUCET_FUNDS,
    Founder,
    check_genesis,
    count_quorum,
    make_founder,
    make_genesis,
    parse_founder,
)
from flock_p2p.passphrase import Passphrases, check_none_for_new_key
from flock_peers.coins import count_coins
from flock_peers.home import Home, make_key
from flock_peers.plural import plural

LEAST_CHAIN_ID = 1 << 48  # and chance above it: of networks with one chain id, each takes the other's transactions
_DELAYS = {"short": DEMO, "long": DEFAULT}


def run(arguments: argparse.Namespace) -> int:
    home = Home(arguments.home)
    if arguments.new_network is not None:
        return _found(home, arguments)
    if arguments.founder or arguments.faucet is not None or arguments.delays is not None:
        raise Misuse("--founder, --faucet and --delays are of a new network: give its name with --new-network NAME")
    check_none_for_new_key(arguments.passphrase_fd)
    key = home.create_key()
    row = _describe(home, key)
    if arguments.json:
        print(json.dumps(row))
        return 0
    print("\n".join(_tell_key(row)))
    print(f"next     python -m flock_p2p join --home {shlex.quote(str(home.path))} --bootstrap ADDRESS")
    print("         (on the local network of a running peer without --bootstrap ADDRESS)")
    return 0


def _describe(home: Home, key: Key) -> dict[str, Any]:
    account = "0x" + key.account.hex()
    return {"home": str(home.path), "account": account, "key": str(home.key_path), "founder": str(make_founder(key))}


def _tell_key(row: dict[str, Any]) -> list[str]:
    return [
        f"home     {row['home']}",
        f"account  {row['account']}",
        f"key      {row['key']}  (back it up: it is this peer's identity and its stake; never share it)",
    ]


def _found(home: Home, arguments: argparse.Namespace) -> int:
    """Nothing is written before all is checked."""
    home.check_is_own()
    _check_has_no_network(home)
    is_new = not home.key_path.exists()
    if is_new:
        check_none_for_new_key(arguments.passphrase_fd)
    key = make_key() if is_new else home.load_key(Passphrases(arguments.passphrase_fd).ask)
    genesis = _make_genesis(key, arguments)
    with home.lock():
        home.bring_up_to_date()
        _check_has_no_network(home)
        if is_new:
            home.create_key(key)
        home.store_genesis(genesis.encode())
    row = _describe(home, key) | _describe_network(genesis)
    print(json.dumps(row) if arguments.json else "\n".join([*_tell_key(row), *_tell_network(home, genesis)]))
    return 0


def _check_has_no_network(home: Home) -> None:
    if home.genesis_path.exists():
        known = home.load_genesis()
        raise Refused(
            f"{home.path} belongs to the network {known.network} (genesis {known.hash.hex()}), and a home is of one "
            "network for ever; name another --home"
        )
    if (home.path / "chain").exists() or (home.path / "consensus").exists():
        raise Refused(
            f"{home.path}: it has been of a network, whose genesis.json is gone: restore that from your back-up, or "
            "name another --home"
        )


def _make_genesis(key: Key, arguments: argparse.Namespace) -> Genesis:
    parameters = _DELAYS[arguments.delays or "short"]
    genesis = make_genesis(
        arguments.new_network,
        _parse_founders(key, arguments.founder),
        parameters,
        chain_id=LEAST_CHAIN_ID + secrets.randbelow(LEAST_CHAIN_ID),
        timestamp=int(time.time()),
        faucet_funds=FAUCET_FUNDS if arguments.faucet is None else _parse_funds(arguments.faucet, parameters),
    )
    check_genesis(genesis)
    return genesis


def _parse_founders(key: Key, texts: Sequence[str]) -> list[Founder]:
    founders = [make_founder(key), *(parse_founder(text) for text in texts)]
    if len({founder.account for founder in founders}) < len(founders):
        raise Misuse("--founder: an account is named twice; this home's own is a founder without a word")
    if len({founder.vrf_key for founder in founders}) < len(founders):
        raise Misuse("--founder: a VRF key is named twice, and of its two accounts one could lead no block")
    return founders


def _parse_funds(text: str, parameters: Parameters) -> int:
    """Of less than one newcomer's part nobody would ever get anything."""
    funds, gift = parse_coins(text), parameters.faucet_amount
    if 0 < funds < gift:
        raise Misuse(f"--faucet {text}: less than the {count_coins(gift)} that a newcomer gets; 0 for no faucet")
    return funds


def _describe_network(genesis: Genesis) -> dict[str, Any]:
    founders = len(genesis.validators)
    return {
        "network": genesis.network, "genesis": genesis.hash.hex(), "chain_id": genesis.chain_id,
        "founders": founders, "quorum": count_quorum(founders),
    }  # fmt: skip


def _tell_network(home: Home, genesis: Genesis) -> list[str]:
    founders, digest = len(genesis.validators), genesis.hash.hex()
    funds = sum(balance for _, balance in genesis.accounts) - founders * BALANCE
    faucet = "no faucet: newcomers have what you send them"
    if funds:
        gift = genesis.parameters.faucet_amount
        faucet = f"{count_coins(funds)} in the faucet, of which a newcomer gets {count_coins(gift)}"
    return [
        f"network  {genesis.network}, genesis {digest}",
        "         tell this hash to those who are to join: they compare it, or pin it with --genesis",
        f"blocks   {_tell_quorum(founders)}",
        f"coins    {count_coins(BALANCE)} of each first validator beside its stake; {faucet}",
        f"next     python -m flock_p2p join --home {shlex.quote(str(home.path))}",
        "         which starts the network and prints the address for the others:",
        f"         python -m flock_p2p join --home NEW --genesis {digest} --bootstrap ADDRESS",
        "         (on the local network of a running peer without --bootstrap ADDRESS)",
    ]


def _tell_quorum(founders: int) -> str:
    if founders == 1:
        return (
            "come while this peer runs, the only validator: stop it, and the network waits. Others are admitted by "
            "`stake admit`; of four any one may be away"
        )
    return f"come while {count_quorum(founders)} of the {plural(founders, 'first validator')} run"
