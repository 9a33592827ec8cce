"""`doctor`: the package, the memory for a base model, and what else keeps a peer from its work."""

import argparse
import json
from pathlib import Path

from flock_chain.errors import FlockError, Unavailable
from flock_chain.execution.genesis_state import compute_contract_hashes
from flock_p2p.checkup import Finding, check_up, format_findings, make_asked, to_dict
from flock_p2p.cli import EXIT_CHECK_FAILED
from flock_p2p.config import choose_base
from flock_p2p.page.assets import load_assets
from flock_peers.home import Home
from flock_peers.plural import plural
from flock_peers.training.base_manifest import compute_base_file, list_base_files
from flock_peers.training.client import BASE_FOLDER


def run(arguments: argparse.Namespace) -> int:
    findings = [_check_package()]
    if arguments.base is not None:  # a question of its own: what cannot be trained at all is an error
        findings.append(_check_memory(arguments, arguments.base))
    elif not arguments.package:
        findings.append(_check_own_memory(arguments))
        findings += check_up(make_asked(arguments.home, arguments.genesis, arguments.bootstrap))
    print(json.dumps(to_dict(findings), indent=2) if arguments.json else format_findings(findings))
    return 0 if to_dict(findings)["ok"] else EXIT_CHECK_FAILED


def _check_package() -> Finding:
    hashes = compute_contract_hashes()
    files = [compute_base_file(path) for path in list_base_files(BASE_FOLDER)]
    if not any(file.name.endswith(".safetensors") for file in files):
        return Finding("package", False, f"no base model in {BASE_FOLDER}", "it is not whole: install it again")
    if "/" not in load_assets():
        return Finding("package", False, "the files of the web page are missing", "it is not whole: install it again")
    size = sum(file.size for file in files) / 1e6
    names = ", ".join(name for name, _ in hashes)
    return Finding(
        "package", True, f"contracts {names}; base model of {plural(len(files), 'file')}, {size:.1f} MB; the page"
    )


def _check_memory(arguments: argparse.Namespace, base: Path) -> Finding:
    from flock_peers.training.precision import check_precision

    try:
        check_precision(arguments.precision)
    except Unavailable as error:
        return Finding("memory", False, str(error), "install it, or choose another --precision")
    try:
        return _plan(arguments, base.expanduser())
    except Unavailable as error:
        return Finding("memory", False, str(error), "close other programs, or follow with `join --observe`")


def _check_own_memory(arguments: argparse.Namespace) -> Finding:
    """Of the base model that this home trains, else of the package's."""
    try:
        return _check_memory(arguments, choose_base(Home(arguments.home), None))
    except FlockError as error:
        return Finding("memory", False, str(error), "mend that, or name another base model: `join --base FOLDER`")


def _plan(arguments: argparse.Namespace, base: Path) -> Finding:
    """What training takes. Raises Unavailable where it does not fit, Misuse for what cannot be trained."""
    from flock_peers.training import memory
    from flock_peers.training.document import Budget, LoraSettings, compute_layout
    from flock_peers.training.opening_trial import check_opening
    from flock_peers.training.precision import Precision

    found = sorted(memory.read_free_gpus(), reverse=True)
    gpus = arguments.gpus or min(1, len(found))
    name = ("bfloat16" if gpus else "float32") if arguments.precision == "auto" else arguments.precision
    default = Budget()
    budget = Budget(batch=arguments.batch or default.batch, seq_len=arguments.seq_len or default.seq_len)
    layout, targets = compute_layout(base, arguments.rank)
    check_opening(base, LoraSettings(arguments.rank), budget.seq_len)
    plan = memory.plan_memory(base, layout, budget, Precision(name), checkpoints=arguments.checkpointing, gpus=gpus)
    if gpus > len(found):
        what = f"memory: {plural(gpus, 'GPU')} wanted, {len(found)} here; each needs about {plan}"
        return Finding("memory", False, what, "give --gpus as many as there are, or a machine that has them")
    free = found[gpus - 1] if gpus else memory.read_free_memory()
    memory.check_memory(plan, free)
    what = f"LoRA of rank {arguments.rank} on {', '.join(targets)}: {layout.parameters:,} parameters take {plan}"
    how = f"as {name}, {budget.batch} x {budget.seq_len} tokens a step"
    room = f"{free / 1e9:.2f} GB are free{' on each of ' + str(gpus) + ' GPUs' if gpus else ''}: it fits"
    return Finding("memory", True, f"{what}, {how}; {room}")
