"""`export`: the global adapter as a folder that peft loads."""

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from flock_chain.aggregation.format import RATE_ONE
from flock_chain.content import format_cid
from flock_p2p.config import choose_base
from flock_p2p.export import ExportResult, export_adapter
from flock_p2p.export.model_card import describe_rate
from flock_peers.home import Home
from flock_peers.training.client import BASE_FOLDER


def run(arguments: argparse.Namespace) -> int:
    base = choose_base(Home(arguments.home), arguments.base)
    result = export_adapter(
        arguments.home.expanduser(), arguments.out.expanduser(), task=arguments.task, round=arguments.round, base=base
    )
    if arguments.json:
        print(json.dumps(_to_dict(result), indent=2))
        return 0
    print("\n".join(format_result(result, arguments.out)))
    return 0


def format_result(result: ExportResult, out: Path) -> list[str]:
    """With the commands that go on from here, ready to paste: a folder's name may hold spaces."""
    folder = shlex.quote(str(out))
    lines = [f"adapter  {out}  (task {result.task}, after round {result.round})"]
    if not result.round:
        lines.append(
            "warning  no round of that task is over: this adapter changes nothing yet; --task N takes another one's"
        )
    if result.rate != RATE_ONE:
        lines.append(f"rate     {describe_rate(result.rate)}")
    base = "" if result.base == BASE_FOLDER else f" --base {shlex.quote(str(result.base))}"
    lines += [
        f"base     {result.base}",
        f'load     PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE), "{out}")',
        f"merge    python -m flock_p2p merge --adapter {folder} --out MERGED{base}",
    ]
    if result.unproven:
        return [*lines, f"proof    none: {result.unproven}"]
    restarts = "".join(f" --restart {row.hex()}" for row in result.restarts)
    known = f"--genesis {result.genesis.hex()}{restarts}"
    return [*lines, f"verify   python -m flock_p2p verify --provenance {folder} {known}"]


def _to_dict(result: ExportResult) -> dict[str, Any]:
    return {
        "folder": str(result.folder),
        "task": result.task,
        "round": result.round,
        "adapter": format_cid(result.adapter),
        "genesis": result.genesis.hex(),
        "base": str(result.base),
        "server_lr_thousandths": result.rate,
        "proposers": ["0x" + account.hex() for account in result.proposers],
        "unproven": result.unproven,
        "restarts": [row.hex() for row in result.restarts],
    }
