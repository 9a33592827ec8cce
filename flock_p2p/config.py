"""One TOML per home: what `join` was told, so that the next start needs no arguments. Arguments win over the file."""

import argparse
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from flock_chain.errors import Misuse
from flock_peers.home import Home, write_private
from flock_peers.settings import DEFAULT_PORT

CONFIG_FILE = "peer.toml"  # in a home once a peer could start there
MAX_CONFIG_BYTES = 64 << 10
DEFAULT_HTTP_PORT = 4280  # beside the peer's own 4200
LISTS = ("bootstrap", "via", "rpc_origin")
_EXAMPLES = {str: "text in quotes", int: "a whole number", bool: "true or false", list: 'a list such as ["a", "b"]'}
NEVER_KEPT = ("attack",)  # an attacker is one only for as long as it is told to be


@dataclass(frozen=True)
class JoinConfig:
    bootstrap: tuple[str, ...] = ()
    listen: str = "0.0.0.0"  # the local network finds this peer without a word of configuration
    port: int = DEFAULT_PORT
    mdns: bool = True  # find peers of the local network, and be found; not on loopback
    data: str = ""  # a path; empty: the domain
    base: str = ""  # folder of a base model; empty: the one that comes with the package
    max_base_bytes: int = -1  # of a base model that is fetched for a task; -1: what the quota has room for
    precision: str = "auto"
    gpus: int = 1
    privacy: str = ""  # NOISE:EPSILON
    checkpointing: bool = False
    dht: bool = False
    guests: int = 0
    relay: bool = False
    via: tuple[str, ...] = ()  # relays through which this peer is reached
    domain: str = "python"
    domain_slice: int = -1  # -1: from the account
    bond: str = ""  # coins; empty: the task's minimum
    task: int = 0  # to take part in before others, also where it pays nothing; 0: the one that pays most
    observe: bool = False
    seed: int = -1  # -1: from the key
    http: int = DEFAULT_HTTP_PORT  # of page and metrics on 127.0.0.1, or any where that is taken; 0: any, -1: none
    rpc: bool = False  # Ethereum's JSON-RPC on it
    rpc_origin: tuple[str, ...] = ()  # pages that may ask it, such as http://localhost:5173
    disk_quota: str = ""  # gigabytes; empty: the default
    attack: str = ""


def load_config(home: Home) -> JoinConfig:
    """Raises Misuse naming the key that is unknown or of the wrong type."""
    path = home.path / CONFIG_FILE
    if not path.exists():
        return JoinConfig()
    try:
        values = tomllib.loads(path.read_bytes()[:MAX_CONFIG_BYTES].decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misuse(f"{path}: {error}") from error
    defaults = {name: value for name, value in asdict(JoinConfig()).items() if name not in NEVER_KEPT}
    for name, value in values.items():
        if name not in defaults:
            near = get_close_matches(name, defaults, n=1, cutoff=0)[0]
            raise Misuse(f"{path}: there is no {name}; did you mean {near}? Known: {', '.join(defaults)}")
        wanted = list if name in LISTS else type(defaults[name])
        if type(value) is not wanted or (wanted is list and not all(isinstance(item, str) for item in value)):
            raise Misuse(f"{path}: {name} = {value!r} is not understood; {_EXAMPLES[wanted]} is needed")
    return JoinConfig(**values | {name: tuple(values.get(name, ())) for name in LISTS})


def choose_base(home: Home, told: Path | None) -> Path:
    """The folder of the base model: what the user says, else what this peer trains on, else the package's."""
    from flock_peers.training.client import BASE_FOLDER

    if told is not None:
        return told.expanduser()
    kept = load_config(home).base
    return Path(kept) if kept else BASE_FOLDER


def merge_arguments(config: JoinConfig, arguments: argparse.Namespace) -> JoinConfig:
    given: dict[str, Any] = {}
    for field in fields(JoinConfig):
        value = getattr(arguments, field.name, None)
        if value is None or value == []:
            continue
        given[field.name] = str(value.expanduser().resolve()) if isinstance(value, Path) else value
    return replace(config, **given | {name: tuple(given[name]) for name in LISTS if name in given})


def save_config(home: Home, config: JoinConfig) -> None:
    lines = ["# What this peer was last told to do; arguments of `join` change it."]
    for name, value in asdict(config).items():
        if name in NEVER_KEPT:
            continue
        lines.append(f"{name} = {_toml(value)}")
    write_private(home.path / CONFIG_FILE, ("\n".join(lines) + "\n").encode())


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    if not escaped.isprintable():
        raise Misuse(f"{value!r}: control characters cannot be kept in peer.toml")
    return f'"{escaped}"'
