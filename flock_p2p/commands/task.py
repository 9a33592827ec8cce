"""`task`: opens a task; what a running peer has in one; orders to take it back, or to delegate."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from flock_chain.bounded_json import loads
from flock_chain.errors import Misuse, Unavailable
from flock_p2p.cli import parse_account, parse_coins
from flock_p2p.live_view import LEAVING, clean, clean_all, describe_round
from flock_peers.coins import count_coins, format_exact
from flock_peers.control import request_control
from flock_peers.home import Home
from flock_peers.plural import plural
from flock_peers.roles.board import PAID_FROM

MAX_DOCUMENT_BYTES = 64 << 10  # every term takes 600 bytes; the control socket takes a megabyte
DOCUMENT_KEYS = ("name", "terms", "budget", "lora", "targets", "data", "bits", "server_lr_thousandths")
ALIASES = {"create": "open", "show": "status"}
POLL_SECONDS = 0.5
OPEN_SECONDS = 15.0  # for a new task to be final
MEAN_THOUSANDTHS = 1_000  # RATE_ONE of flock_chain.aggregation, which would load numpy
MAX_NAME = 24  # characters of a task's name in the list
DELEGATIONS = ("delegate", "undelegate", "withdraw-delegation", "claim-delegation")  # with --account; so may status be


def run(arguments: argparse.Namespace) -> int:
    arguments.action = action = ALIASES.get(arguments.action, arguments.action)
    params, path = _params(arguments), Home(arguments.home).control_path
    if action == "open":
        return _open(path, arguments)
    _check_no_new(arguments)
    if action == "reference":
        found = request_control(path, "reference", **params)
        print(json.dumps(found, indent=2) if arguments.json else format_reference(found))
        return 0
    if action == "list":
        found = request_control(path, "tasks")
        print(json.dumps(found, indent=2) if arguments.json else format_list(found))
        return 0
    answer = request_control(path, "task", action=action, **params)
    if action != "status":
        sent = answer["sent"]
        said = "sent; it is final in a moment" if sent else "nothing to send, or the same order is under way already"
        print(said, file=sys.stderr if arguments.json else sys.stdout)
        time.sleep(arguments.wait)
        named = {"account": params["account"]} if "account" in params else {}
        answer = request_control(path, "task", action="status", task=answer["task"], **named)
    print(json.dumps(answer, indent=2) if arguments.json else format_task(answer))
    return 0


def _check_no_new(arguments: argparse.Namespace) -> None:
    names = ("pot", "document", "rounds", "audit_rounds", "name", "model", "data_format", "reference")
    if any(getattr(arguments, name) is not None for name in names):
        options = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        raise Misuse(f"task {arguments.action} takes none of {options}; only create")


def _open(path: Path, arguments: argparse.Namespace) -> int:
    if arguments.pot is None or arguments.task is not None:
        raise Misuse("task create needs --pot COINS, and takes no --task: its number is the next one")
    wanted = choose_wanted(arguments)
    pot, out = parse_coins(arguments.pot), sys.stderr if arguments.json else sys.stdout
    base = _publish(path, arguments.model, wanted, out)
    before = _newest(path)  # may be of the same document
    document = request_control(path, "open_task", pot=str(pot), base=base, **wanted)["document"]
    print(f"document   {document}; sent with pot and fee", file=out)
    for line in describe_unpaid(wanted, pot):
        print(line, file=out)
    deadline = time.monotonic() + max(arguments.wait, OPEN_SECONDS)
    while (row := _newest(path)) is None or row["document"] != document or row["task"] == (before or {}).get("task"):
        if time.monotonic() > deadline:
            print("not final yet: `task` shows it when it is", file=out)
            if arguments.json:
                print(json.dumps({"task": None, "document": document}, indent=2))
            return 0
        time.sleep(POLL_SECONDS)
    print(json.dumps(row, indent=2) if arguments.json else format_task(row))
    return 0


def choose_wanted(arguments: argparse.Namespace) -> dict[str, Any]:
    """The document's, and the options that go before it."""
    wanted = read_wanted(arguments.document) if arguments.document is not None else {}
    if arguments.name is not None:
        wanted["name"] = arguments.name
    _set_terms(wanted, arguments)
    if arguments.data_format is not None:
        wanted["data"] = arguments.data_format
    if arguments.reference is not None:
        wanted["reference"] = read_reference(arguments.reference)
        terms = wanted.get("terms")
        if not (isinstance(terms, dict) and terms.get("audit_rounds")):
            raise Misuse("task create: a reference is for audits, and this task has none; add --audit-rounds N")
    return wanted


def _set_terms(wanted: dict[str, Any], arguments: argparse.Namespace) -> None:
    said = {"rounds": arguments.rounds, "audit_rounds": arguments.audit_rounds}
    said = {name: value for name, value in said.items() if value is not None}
    if not said:
        return
    terms = wanted.get("terms", {})
    if not isinstance(terms, dict):
        raise Misuse(f"{arguments.document}: terms is no object with names and numbers")
    wanted["terms"] = terms | said


def describe_unpaid(wanted: dict[str, Any], pot: int) -> list[str]:
    """Who pays nothing should know who comes; who lowers the number for which a task waits, what such rounds give."""
    if pot == 0:
        return ["pay        none, so no other peer joins it unasked: `join --task` with its number does"]
    least = wanted.get("terms", {}).get("min_participants", PAID_FROM)
    if int(least) >= PAID_FROM:
        return []
    return [f"pay        none in rounds with fewer than {PAID_FROM} participants, and this has them from {least} on"]


def _check_opening(folder: Path, wanted: dict[str, Any]) -> None:
    """What no trainer could open would have cost pot and fee. What the peer says of the numbers is left to it."""
    from flock_peers.tasks import parse_wanted  # with numpy, which no other order needs
    from flock_peers.training.opening_trial import check_opening

    said = parse_wanted(wanted)
    check_opening(folder, said.lora, said.budget.seq_len, said.reference)


def _publish(path: Path, model: Path | None, wanted: dict[str, Any], out: TextIO) -> str | None:
    """The content id of the base model, when the running peer serves all of it; None for the shipped one."""
    folder = None if model is None else str(model.expanduser().resolve())
    if folder is not None:
        _check_opening(Path(folder), wanted)
    row = request_control(path, "give_base", folder=folder)
    told = ""
    if row and folder is None:
        _check_opening(Path(row["folder"]), wanted)
        row = _ask(path, row["folder"])
        if row["error"]:  # nobody asked how far it is for as long as the trial took
            row = request_control(path, "give_base", folder=None)
    while row and row["base"] is None and not row["error"]:
        told = tell_giving(row, told, out)
        time.sleep(POLL_SECONDS)
        row = _ask(path, row["folder"])
    if told and out.isatty():
        print(file=out)
    if not row:
        return None
    if row["error"]:
        raise Misuse(row["error"])
    print(
        f"base       {row['base']}; {plural(row['files'], 'file')}, {row['bytes'] / 1e6:.1f} MB, served by this peer",
        file=out,
    )
    return str(row["base"])


def _ask(path: Path, folder: str) -> dict[str, Any]:
    """How far this folder is; a peer that was started again knows of none, and it is given again."""
    row: dict[str, Any] = request_control(path, "giving", folder=folder)
    return row or request_control(path, "give_base", folder=folder)


def tell_giving(row: dict[str, Any], before: str, out: TextIO) -> str:
    """How far it is, on a terminal in one line; in a pipe what begins. Returns what was told."""
    is_read = row["read"] >= row["bytes"]
    what, done = ("storing", row["done"]) if is_read else ("reading", row["read"])
    if out.isatty():
        print(f"\rbase       {what} {done / 1e6:.0f} of {row['bytes'] / 1e6:.0f} MB", end="", file=out, flush=True)
    elif what != before:
        print(f"base       {what} {row['bytes'] / 1e6:.0f} MB of {row['folder']}", file=out, flush=True)
    return what


def _newest(path: Path) -> dict[str, Any] | None:
    """None where this account has nothing in any task yet."""
    try:
        row: dict[str, Any] = request_control(path, "task", action="status")
    except Unavailable as error:
        if "nothing in any task" in str(error):
            return None
        raise
    return row


def read_wanted(file: Path) -> dict[str, Any]:
    """What the task is to be, as JSON; the peer looks at each name and number."""
    try:
        with file.expanduser().open("rb") as opened:
            data = opened.read(MAX_DOCUMENT_BYTES + 1)
        wanted = loads(data, depth=4) if len(data) <= MAX_DOCUMENT_BYTES else None
    except OSError as error:
        raise Misuse(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise Misuse(f"{file}: not JSON: {error}") from error
    if not isinstance(wanted, dict) or set(wanted) - set(DOCUMENT_KEYS):
        raise Misuse(f"{file}: an object with some of {', '.join(DOCUMENT_KEYS)}, at most {MAX_DOCUMENT_BYTES} bytes")
    return wanted


def read_reference(file: Path) -> str:
    """As a text file of rows is read, so that what is the same there is the same to an audit."""
    from flock_peers.training.document import MAX_REFERENCE_BYTES  # with numpy, which no other order needs

    if file.suffix.lower() == ".jsonl":
        raise Misuse(f"{file}: a reference is plain text, and no JSONL: write out what a few rows say")
    try:
        with file.expanduser().open("rb") as opened:
            data = opened.read(MAX_REFERENCE_BYTES + 1)
        text = data.decode("utf-8-sig").replace("\r\n", "\n") if len(data) <= MAX_REFERENCE_BYTES else ""
    except OSError as error:
        raise Misuse(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Misuse(f"{file}: a reference is text in UTF-8: {error.reason} at byte {error.start}") from error
    if not text.strip():
        raise Misuse(f"{file}: a reference is a text of at most {MAX_REFERENCE_BYTES} bytes; choose a few rows")
    if "\0" in text:
        raise Misuse(f"{file}: holds zero bytes, so it is no text")
    return text


def _params(arguments: argparse.Namespace) -> dict[str, Any]:
    action = arguments.action
    params: dict[str, Any] = {} if arguments.task is None else {"task": arguments.task}
    _check(action, "--account ACCOUNT", DELEGATIONS, arguments.account, ("status",))
    _check(action, "--amount COINS", ("delegate", "terms"), arguments.amount, ("undelegate",))
    _check(action, "--commission BPS", ("terms",), arguments.commission)
    if arguments.account is not None:
        params["account"] = "0x" + parse_account(arguments.account).hex()
    if arguments.amount is not None:
        params["amount"] = str(parse_coins(arguments.amount))
    if arguments.commission is not None:
        params["commission"] = arguments.commission
    return params


def _check(action: str, option: str, needed: Sequence[str], value: object, allowed: Sequence[str] = ()) -> None:
    if action in needed and value is None:
        raise Misuse(f"{action} needs {option}")
    if action not in (*needed, *allowed) and value is not None:
        raise Misuse(f"{action} takes no {option.split()[0]}; only {', '.join((*needed, *allowed))}")


def format_reference(found: dict[str, Any]) -> str:
    """A stranger's text: nothing in it may move the cursor."""
    lines = [clean_all(line.expandtabs()) for line in found["reference"].splitlines()]
    if not found["reference"]:
        return f"task {found['task']} has no reference: audits go by what each auditor's own rows say"
    return "\n".join(lines)


def format_list(found: dict[str, Any]) -> str:
    if not found["tasks"]:
        return "no task was opened on this network yet; `task create --pot COINS` opens one"
    title = ("task", "round", "phase", "pot left", "bond from", "participants", "name", "base model", "data", "creator")
    rows = [title, *map(_format_row, found["tasks"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    hidden = found["count"] - len(found["tasks"])
    return "\n".join(lines + ([f"and {hidden} older ones"] if hidden else []))


def _format_row(row: dict[str, Any]) -> tuple[str, ...]:
    about = row.get("about")
    return (
        str(row["task"]),
        describe_round(row).removeprefix("round "),
        row["phase"],
        format_exact(int(row["pot"])),
        format_exact(int(row["min_bond"])),
        str(row["participants"]),
        clean(about["name"])[:MAX_NAME] if about else "?",
        format_base(about) if about else "?",
        f"{about['data']}, {about['seq_len']} tokens" if about else "?",
        row["creator"],
    )


def format_task(row: dict[str, Any]) -> str:
    coins = {name: _coins(row[name]) for name in ("bond", "claimable", "unbonding", "pot")}
    state = LEAVING if row["is_leaving"] else "drawn no more, absent for too long" if row["is_unseated"] else ""
    if row["phase"] == "ENDED" and int(row["bond"]) and not row["is_leaving"]:
        state = "the peer takes it back when it joins another task; `task leave` begins that now"
    lines = [
        f"task       {row['task']}, {describe_round(row)}, {row['phase']}",
        *format_about(row.get("about")),
        f"bond       {coins['bond']}" + (f" ({state})" if state else ""),
        f"claimable  {coins['claimable']}",
        f"unbonding  {coins['unbonding']}",
    ]
    if int(row["unbonding"]):
        wait = max(0, row["release_at"] - row["chain_time"])
        lines.append(f"withdraw   {'now' if wait == 0 else f'in {wait} s of chain time'}")
    if row["missed"]:
        lines.append(f"missed     {plural(row['missed'], 'seat')} in a row")
    if row["is_creator"]:
        lines.append(f"pot        {coins['pot']} left{_format_order(row)}")
    offer = row["delegated"]
    if int(offer["pool"]) or int(offer["limit"]):
        lines.append(f"delegated  {_coins(offer['pool'])} of others, bonded with this account")
        lines += format_offer(offer, row["chain_time"], "terms")
    if "delegation" in row:
        lines += format_delegation(row["delegation"], row["chain_time"])
    return "\n".join(lines)


def _format_order(row: dict[str, Any]) -> str:
    if row["phase"] != "ENDED":
        return "; `task pot` takes them back when the task has ended"
    return "; `task pot` takes them back" if int(row["pot"]) else ""


def format_about(about: dict[str, Any] | None) -> list[str]:
    """What the task's document says."""
    if about is None:
        return ["document   at no connected peer now"]
    here = "here" if about["is_here"] else "not here"
    who = f"{here}; {_count_providers(about)} of the connected peers serve it"
    files = f"{plural(about['base_files'], 'file')}, {about['base_bytes'] / 1e6:.1f} MB"
    train = f"{plural(about['steps'], 'step')} of {plural(about['batch'], 'sequence')} a round"
    return [
        f"name       {clean(about['name'])}",
        f"base       {about['base']}, {files}, {'comes with the package' if about.get('is_shipped') else who}",
        f"data       {about['data']} rows, sequences of {about['seq_len']} tokens; {train}",
        *_format_rate(about.get("server_lr_thousandths", MEAN_THOUSANDTHS)),
        *_format_reference(about.get("reference_bytes", 0)),
    ]


def _format_rate(thousandths: int) -> list[str]:
    """Who joins should know where a round adds more, or less, than other tasks do."""
    if thousandths == MEAN_THOUSANDTHS:
        return []
    return [f"rate       a round adds {thousandths / 1e3:g} times the mean of what it accepts, and of what audits miss"]


def _format_reference(size: int) -> list[str]:
    """Who joins should read what the creator wants audits to be silent about."""
    if not size:
        return []
    return [f"reference  {size / 1e3:.1f} kB of text that audits blame nobody for; `task reference` prints it"]


def format_base(about: dict[str, Any]) -> str:
    """In one cell: its content id's end, for the beginning is the same in all, its size, and who has it."""
    if about.get("is_shipped"):
        return f"the package's, {about['base_bytes'] / 1e6:.1f} MB"
    here = "here, " if about["is_here"] else ""
    return f"..{about['base'][-8:]} {about['base_bytes'] / 1e6:.1f} MB, {here}{_count_providers(about)} serve it"


def _count_providers(about: dict[str, Any]) -> str:
    return "?" if about["providers"] is None else str(len(about["providers"]))


def format_delegation(row: dict[str, Any], now: int) -> list[str]:
    """What this account has with the participant that was named."""
    lines = [
        f"with       {row['participant']}, whose own bond is {_coins(row['bond'])}",
        f"bonded     {_coins(row['stake'])} with it, {format_exact(int(row['leaving']))} more leaving",
        f"earned     {_coins(row['earned'])} by that; `task claim-delegation` pays them out",
    ]
    if int(row["leaving"]):
        word = "`task undelegate` lets it unbond now" if row["is_out"] else "what is leaving can still be slashed"
        lines.append(f"leaving    {word}")
    if int(row["unbonding"]):
        wait = max(0, row["release_at"] - now)
        lines.append(f"unbonding  {_coins(row['unbonding'])}, the first free in {wait} s of chain time")
    if int(row["free"]):
        lines.append(f"free       {_coins(row['free'])}; `task withdraw-delegation` pays them out")
    return lines + format_offer(row["offer"], now, "its terms")


def format_offer(row: dict[str, Any], now: int, title: str) -> list[str]:
    share = f"keeps {row['commission'] / 100:.2f} % of the delegators' pay"
    lines = [f"{title:<11}{share}, has room for {_coins(row['room'])} more"]
    if row["next_commission"] != row["commission"]:
        wait = max(0, row["next_at"] - now)
        lines.append(f"from then  {row['next_commission'] / 100:.2f} %, in {wait} s of chain time")
    return lines


def _coins(wei: str) -> str:
    return count_coins(int(wei))
