"""Whether a trainer could open a base model at all, told within seconds from its configuration, its tokenizer and the
headers of its weights, before anything is paid: transformers' and peft's own words, in processes of bounded time and
memory.

No weight is read, so a model of any size takes the same; what only a computation would say is left to the trainer.
"""

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from flock_peers.training.base_check import UnusableBase
from flock_peers.training.client import BASE_FOLDER, make_environment
from flock_peers.training.document import LoraSettings, compute_layout
from flock_peers.training.reasons import REASON, describe
from flock_peers.training.tokenizer_trial import check_before_rows

TRIAL_SECONDS = 120.0  # of the processor; most of the few that it takes are the import of torch
MEMORY_BYTES = 3 << 29  # as a plan: twice of it, and a GiB, may be private and writable


LEAST = LoraSettings(rank=1)


def check_opening(
    folder: Path, lora: LoraSettings | None = None, seq_len: int = 1, reference: str = ""
) -> None:  # fmt: skip
    """Raises Misuse with the model's own reason. Of the package's own model the tests know. `lora`: None where no task
    is known yet, of which each chooses its targets: one projection that takes LoRA is enough. `reference`: the
    task's."""
    if folder.resolve() == BASE_FOLDER.resolve():
        return
    values = asdict(lora or LEAST) | {"seq_len": seq_len, "is_any": lora is None}
    environment = make_environment() | {"CUDA_VISIBLE_DEVICES": ""}  # whose context would take more than is allowed
    command = [sys.executable, "-m", "flock_peers.training.opening_trial", str(folder), str(TRIAL_SECONDS)]
    done = subprocess.run(
        [*command, json.dumps(values)], stdin=subprocess.DEVNULL, capture_output=True, check=False, env=environment
    )
    if done.returncode == 0:
        check_before_rows(folder, reference)
        return
    lines = done.stdout.decode(errors="replace").splitlines()
    said = next((line.removeprefix(REASON) for line in lines if line.startswith(REASON)), "")
    if done.returncode == -signal.SIGPROF:
        said = f"base model {folder}: is not opened after {TRIAL_SECONDS:.0f} s of the processor; take another model"
    raise UnusableBase(said or f"base model {folder}: the process that tried to open it ended ({done.returncode})")


def main(
    folder: Path, seconds: float, *, rank: int, alpha: int, targets: list[str], seq_len: int, is_any: bool
) -> int:  # fmt: skip
    from flock_chain.errors import FlockError
    from flock_peers.training.limits import close_network, limit_files, limit_memory

    signal.setitimer(signal.ITIMER_PROF, seconds)
    close_network()
    limit_files(0)
    limit_memory(MEMORY_BYTES)
    try:
        layout, found = compute_layout(folder, rank, tuple(targets))
        wanted = [(LoraSettings(rank, alpha, found), layout)]
        for name in found if is_any else ():
            layout, one = compute_layout(folder, rank, (name,))
            wanted.append((LoraSettings(rank, alpha, one), layout))
        from flock_peers.training.opening import try_opening

        try_opening(folder, wanted, seq_len)
    except FlockError as error:
        print(f"{REASON}{error}")
        return 1
    except Exception as error:  # noqa: BLE001 - the process' edge: what asked for it wants a word, too
        print(f"{REASON}base model {folder}: cannot be opened ({describe(error)})")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]), **json.loads(sys.argv[3])))
