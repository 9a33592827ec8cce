"""`doctor`: whether what is installed is whole, and whether a task on a base model fits this machine's memory."""

import argparse
from pathlib import Path

from flock_chain.errors import Misuse


def run(arguments: argparse.Namespace) -> int:
    from flock_chain.execution.genesis_state import compute_contract_hashes
    from flock_peers.training.client import BASE_FOLDER
    from flock_peers.training.document import compute_base_file, list_base_files

    hashes = compute_contract_hashes()
    files = [compute_base_file(path) for path in list_base_files(BASE_FOLDER)]
    if not any(file.name.endswith(".safetensors") for file in files):
        raise Misuse(f"the package is not whole: no base model in {BASE_FOLDER}; install it again")
    print(f"contracts   {', '.join(name for name, _ in hashes)}")
    print(f"base model  {len(files)} files, {sum(file.size for file in files) / 1e6:.1f} MB")
    if not arguments.package:
        _plan(arguments, arguments.base or BASE_FOLDER)
    return 0


def _plan(arguments: argparse.Namespace, base: Path) -> None:
    """Prints what training takes. Raises Unavailable where it does not fit, Misuse for what cannot be trained."""
    from flock_peers.training import memory
    from flock_peers.training.document import Budget, compute_layout
    from flock_peers.training.precision import Precision, check_precision

    check_precision(arguments.precision)
    gpus = memory.read_free_gpus()
    name = ("bfloat16" if gpus else "float32") if arguments.precision == "auto" else arguments.precision
    default = Budget()
    budget = Budget(batch=arguments.batch or default.batch, seq_len=arguments.seq_len or default.seq_len)
    layout, targets = compute_layout(base.expanduser(), arguments.rank)
    plan = memory.plan_memory(
        base.expanduser(), layout, budget, Precision(name), checkpoints=arguments.checkpointing, gpus=min(1, len(gpus))
    )
    free = max(gpus) if gpus else memory.read_free_memory()
    print(f"LoRA        rank {arguments.rank} on {', '.join(targets)}: {layout.parameters:,} parameters")
    print(f"memory      {plan}, as {name}, {budget.batch} x {budget.seq_len} tokens a step")
    print(f"free        {free / 1e9:.2f} GB{' on one GPU' if gpus else ''}", flush=True)
    memory.check_memory(plan, free)
    print("            it fits")
