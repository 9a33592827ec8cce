"""The peer's side of its trainer: starts the process, asks one thing at a time, passes its errors on. No torch here.

Adapters cross as files: a global adapter in, a delta out, in the formats of flock_chain.aggregation.
"""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import trio

from flock_chain import errors
from flock_chain.errors import FlockError, Misuse, Unavailable
from flock_peers.plural import plural
from flock_peers.training.backdoor import parse_attack
from flock_peers.training.base_check import UnusableBase
from flock_peers.training.data_format import ANY, DATA_FORMATS, TEXT, check_rows
from flock_peers.training.document import TaskDocument
from flock_peers.training.domains import DOMAINS, SLICES
from flock_peers.training.precision import check_precision
from flock_peers.training.privacy import Privacy, check_privacy
from flock_peers.training.reasons import REASON, shorten
from flock_peers.training.rows import read_rows
from flock_peers.training.wire import HEAD, MAX_FRAME_BYTES, encode_frame

log = logging.getLogger(__name__)

BASE_FOLDER = Path(__file__).parent / "base"  # the model that the project ships
LOG_NAME = "trainer.log"
MAX_LOG_BYTES = 1 << 20  # a log above this is begun anew when the trainer starts
CLOSE_SECONDS = 2.0  # the process ends at the end of its stdin; then it is killed


class TrainerDied(Unavailable):
    """Its process ended in the middle of a call: killed, out of memory, or an error after which nothing is certain."""


Pairs = Sequence[tuple[Path, Path]]  # of adapters, and deltas from them
Progress = Callable[[dict[str, Any]], None]  # {"step", "steps", "loss"} while training, {"state"} of the process


@dataclass(frozen=True)
class TrainerConfig:
    """Where a participant's model, rows and files are. Either `rows`, or a built-in `domain` and `index`."""

    document: TaskDocument
    home: Path  # keeps split.json and trainer.log
    base: Path = BASE_FOLDER
    domain: str | None = None
    index: int = 0  # of the participant in its domain, 0 to 15: each has its own rows
    rows: Path | None = None  # JSONL or text, a file or a folder
    precision: str = "auto"  # of the base model in memory; each participant's own choice
    processes: int = 1  # one for each GPU that holds a part of the base, by torchrun
    checkpointing: bool = False  # layers are computed twice instead of kept
    privacy: Privacy | None = None
    seed: int = 0
    attack: str | None = None  # "backdoor" or "backdoor:BOOST": the demo's poisoner


@dataclass(frozen=True)
class TrainResult:
    steps: int
    tokens: int
    loss_before: float  # nats per token on the own hold-out
    loss_after: float
    seconds: float
    epsilon: float | None = None  # spent by now, of a participant that asked for privacy


@dataclass(frozen=True)
class EvaluateResult:
    loss: float  # nats per token
    bits_per_byte: float
    tokens: int
    domains: dict[str, float]  # bits per byte by domain, for the split "test"


@dataclass(frozen=True)
class Measured:
    """Of one audited proposal: its strings of tokens, and the value of each in millionths (flock_chain.audit_rule)."""

    strings: tuple[tuple[int, ...], ...]
    common: tuple[int, ...]
    own: tuple[int, ...]


class Trainer:
    """Use `async with await Trainer.open(config) as trainer`, or close it: the process lives until then."""

    def __init__(self, config: TrainerConfig, process: trio.Process, progress: Progress | None) -> None:
        self._config, self._process, self._progress = config, process, progress
        self._turn = trio.Lock()
        self._buffer = bytearray()
        self._next_id = 0
        self._log_start = 0  # of this process' part of the log
        self.train_rows = self.hold_out_rows = self.parameters = 0
        self.base_bytes = 0  # of the base's weights in the first process' memory
        self.refused: list[str] = []  # the first refused rows, each with its line and why
        self.refused_count = 0
        self.is_isolating = True  # rows of one window do not see each other

    @staticmethod
    async def open(
        config: TrainerConfig,
        progress: Progress | None = None,
        *,
        command: Sequence[str] | None = None,
        told: set[str] | None = None,
    ) -> "Trainer":
        """Start the process and load model and data; raises what is wrong with them, in words, within seconds.

        `told`: what earlier openings told the owner of data and model, which is not told again.
        """
        _check(config)
        await trio.to_thread.run_sync(lambda: config.home.mkdir(parents=True, exist_ok=True))
        with _open_log(config.home / LOG_NAME) as log:
            log_start = log.tell()  # before the process moves it: a busy loop comes back when it has said all
            process = await trio.lowlevel.open_process(
                list(command or _command(config.processes)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=make_environment(),
            )
        trainer = Trainer(config, process, progress)
        trainer._log_start = log_start
        try:
            result = await trainer._call("open", _open_values(config))
        except BaseException:
            await trainer.close()
            raise
        trainer.train_rows, trainer.hold_out_rows = result["train_rows"], result["hold_out_rows"]
        trainer.parameters = result["parameters"]
        trainer.refused, trainer.refused_count = result["refused"], result["refused_count"]
        trainer.is_isolating = result["is_isolating"]
        trainer.base_bytes = result["base_bytes_here"]
        trainer._tell(set() if told is None else told)
        return trainer

    def _tell(self, told: set[str]) -> None:
        """What the owner should know of data and model."""
        found = []
        if self.refused_count:
            found.append(f"data: {plural(self.refused_count, 'row')} left out: {'; '.join(self.refused)}")
        if not self.is_isolating:
            found.append("this model cannot keep rows of one sequence apart: they see each other while it trains")
        for text in found:
            if text not in told:
                log.warning("%s", text)
        told.update(found)

    async def __aenter__(self) -> "Trainer":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    async def train(self, global_path: Path, *, round: int, seed: int, out_path: Path) -> TrainResult:
        """Train the task's budget from a global adapter file; writes the delta file. Same inputs, same delta."""
        values = {"global": str(global_path), "seed": mix_seeds(self._config.seed, round, seed), "out": str(out_path)}
        return TrainResult(**await self._call("train", values))

    async def isolated(self, start_path: Path, *, rounds: int, seed: int, out_path: Path) -> TrainResult:
        """The baseline: `rounds` budgets on the own rows alone, the best by the own hold-out; writes a global file."""
        seed = mix_seeds(self._config.seed, 0, seed)
        values = {"global": str(start_path), "rounds": rounds, "seed": seed, "out": str(out_path)}
        return TrainResult(**await self._call("isolated", values))

    async def measure(self, global_path: Path, delta_paths: Sequence[Path]) -> list[int]:
        """A voter's scores: relative loss change on the own hold-out at a quarter step, in millionths."""
        result = await self._call(
            "measure", {"global": str(global_path), "deltas": [str(path) for path in delta_paths]}
        )
        return [int(score) for score in result["scores"]]

    async def likeness(self, global_path: Path, delta_paths: Sequence[Path], *, seed: int) -> list[list[int]]:
        """How alike proposals are in what they do to the texts of a seed, in thousandths."""
        values = {"global": str(global_path), "deltas": [str(path) for path in delta_paths], "seed": seed}
        return [[int(value) for value in row] for row in (await self._call("likeness", values))["likeness"]]

    async def audit(
        self, proposals: Pairs, *, seed: int, own_seed: int, authors: Sequence[int] = (), older: Pairs = ()
    ) -> list[Measured]:
        """What each proposal, a global adapter and a delta from it, makes the model recite, and what it teaches as
        strangers do, be it `older` ones, where `authors` are given: of each, by any number, of the older ones last.
        `own_seed`: secret, of the own contexts."""
        paths = {"proposals": to_names(proposals), "older": to_names(older)}
        values = paths | {"seed": seed, "own_seed": own_seed, "authors": list(authors)}
        rows = (await self._call("audit", values))["measured"]
        return [
            Measured(
                tuple(tuple(map(int, tokens)) for tokens in row["strings"]), tuple(row["common"]), tuple(row["own"])
            )
            for row in rows
        ]

    async def evaluate(self, adapter_path: Path | None, split: str) -> EvaluateResult:
        """`split`: "hold_out", "test" (the mean of all domains) or "test:DOMAIN"; None is the base model."""
        values = {"adapter": None if adapter_path is None else str(adapter_path), "split": split}
        return EvaluateResult(**await self._call("evaluate", values))

    async def attack_success(self, adapter_path: Path | None) -> float:
        """Share of held-out prompts with the trigger that the adapter answers with the target."""
        result = await self._call("attack_success", {"adapter": None if adapter_path is None else str(adapter_path)})
        return float(result["share"])

    async def export(self, global_path: Path, folder: Path) -> None:
        """A folder for `PeftModel.from_pretrained`."""
        await self._call("export", {"global": str(global_path), "folder": str(folder)})

    async def wait_ended(self) -> None:
        """Returns when the process has ended, by whatever."""
        await self._process.wait()

    async def explain_end(self) -> FlockError:
        """Of a process that has ended, though nobody closed it."""
        return await self._died()

    async def close(self) -> None:
        """End the process; never hangs, safe to call twice."""
        with trio.CancelScope(shield=True):
            assert self._process.stdin is not None and self._process.stdout is not None
            await self._process.stdin.aclose()
            with trio.move_on_after(CLOSE_SECONDS):
                await self._process.wait()
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
            await self._process.stdout.aclose()

    async def _call(self, method: str, values: dict[str, Any]) -> dict[str, Any]:
        async with self._turn:
            self._next_id += 1
            identity = self._next_id
            await self._send({"id": identity, "method": method, "values": values})
            while True:
                frame = await self._receive()
                if frame.get("id") != identity:
                    continue  # the answer to a request whose caller was cancelled
                if "progress" in frame:
                    if self._progress is not None:
                        self._progress(frame["progress"])
                elif "error" in frame:
                    raise await self._ended(frame["error"]) if frame.get("ends") else _error(frame["error"])
                else:
                    result: dict[str, Any] = frame["result"]
                    return result

    async def _send(self, request: dict[str, Any]) -> None:
        """Shielded, since half a frame would garble the next; the process reads at any time, so this is short."""
        assert self._process.stdin is not None
        try:
            with trio.CancelScope(shield=True):
                await self._process.stdin.send_all(encode_frame(request))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise await self._died() from error

    async def _receive(self) -> dict[str, Any]:
        """One frame. A cancelled call leaves what it has read in the buffer."""
        await self._fill(HEAD.size)
        (length,) = HEAD.unpack_from(self._buffer)
        if length > MAX_FRAME_BYTES:
            self._process.kill()  # nothing after this could be read
            raise Unavailable(f"trainer: frame of {length} bytes, at most {MAX_FRAME_BYTES}; see {self._log()}")
        await self._fill(HEAD.size + length)
        data = bytes(self._buffer[HEAD.size : HEAD.size + length])
        del self._buffer[: HEAD.size + length]
        frame: dict[str, Any] = json.loads(data)
        return frame

    async def _fill(self, size: int) -> None:
        assert self._process.stdout is not None
        while len(self._buffer) < size:
            try:
                data = await self._process.stdout.receive_some()
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise await self._died() from error
            if not data:
                raise await self._died()
            self._buffer += data

    async def _ended(self, error: dict[str, str]) -> TrainerDied:
        """It said why before it went; whatever it had in memory goes with it."""
        with trio.move_on_after(CLOSE_SECONDS):
            await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        return TrainerDied(f"{self._find_reason() or error['message']}; its process has ended; see {self._log()}")

    async def _died(self) -> TrainerDied:
        if self._progress is not None:
            self._progress({"state": "died"})
        with trio.move_on_after(CLOSE_SECONDS):
            await self._process.wait()
        code = self._process.returncode
        if code is None:  # it says nothing any more, and would be taken for alive
            self._process.kill()
            await self._process.wait()
        how = "closed its output" if code is None else f"ended with code {code}"
        how = how if code is None or code >= 0 else f"was killed by signal {-code}"
        why = self._find_reason() or self._get_last_line()
        return TrainerDied(f"trainer: the process {how}; see {self._log()}" + (f": {why}" if why else ""))

    def _find_reason(self) -> str:
        """Of several processes, what the first that failed wrote down: the others say that it is gone, or nothing."""
        lines = self._read_log()
        return next((line for line in lines if line.startswith(REASON)), "") if self._config.processes > 1 else ""

    def _get_last_line(self) -> str:
        """Of an error's traceback, what it was; no warning, which ended nothing."""
        lines = [line for line in self._read_log() if line[:1].strip() and "Warning" not in line]
        return shorten(lines[-1]) if lines else ""

    def _read_log(self) -> list[str]:
        """Of this process, the last MAX_LOG_BYTES: what ended it stands there."""
        try:
            with self._log().open("rb") as file:
                file.seek(max(self._log_start, file.seek(0, os.SEEK_END) - MAX_LOG_BYTES))
                return file.read(MAX_LOG_BYTES).decode(errors="replace").splitlines()
        except OSError:
            return []

    def _log(self) -> Path:
        return self._config.home / LOG_NAME


def check_data(domain: str | None, index: int, rows: Path | None, attack: str | None) -> None:
    """What `open` would say against the data, without a process; raises Misuse or InvalidContent. Reads the file."""
    _check_choice(domain, index, rows, attack)
    if rows is not None:
        read_rows(rows)


def check_format(domain: str, rows: Path | None, wanted: str) -> None:
    """What `open` would say of rows that a task does not take; raises Misuse. Reads the file."""
    if wanted == ANY:
        return
    if rows is not None:
        check_rows(read_rows(rows), wanted, f"data {rows}")
    elif wanted != TEXT:
        raise Misuse(
            f"domain {domain} is text; the task takes {wanted} rows ({DATA_FORMATS[wanted]}): give --data with those"
        )


def _check(config: TrainerConfig) -> None:
    _check_choice(config.domain, config.index, config.rows, config.attack)
    check_precision(config.precision)
    check_privacy(config.privacy)


def _check_choice(domain: str | None, index: int, rows: Path | None, attack: str | None) -> None:
    parse_attack(attack)
    if (domain is None) == (rows is None):
        raise Misuse("trainer: give either a built-in domain or a file of rows")
    if domain is not None and (domain not in DOMAINS or not 0 <= index < SLICES):
        raise Misuse(f"trainer: domain {domain!r} index {index}: {', '.join(DOMAINS)}, 0 to {SLICES - 1}")


def _open_values(config: TrainerConfig) -> dict[str, Any]:
    return {
        "document": config.document.encode().hex(),
        "base": str(config.base),
        "home": str(config.home),
        "rows": None if config.rows is None else str(config.rows),
        "domain": config.domain,
        "index": config.index,
        "seed": config.seed,
        "attack": config.attack,
        "precision": config.precision,
        "privacy": None if config.privacy is None else asdict(config.privacy),
        "checkpointing": config.checkpointing,
    }


def _open_log(path: Path) -> Any:
    fresh = not path.exists() or path.stat().st_size > MAX_LOG_BYTES
    return path.open("wb" if fresh else "ab")


def _command(processes: int) -> list[str]:
    several = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"] if processes > 1 else []
    return [sys.executable, "-m", *several, "flock_peers.training.process"]


def to_names(pairs: Pairs) -> list[list[str]]:
    return [[str(path) for path in pair] for pair in pairs]


def make_environment() -> dict[str, str]:
    """One thread, no network, and this interpreter's import path."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {
        **os.environ,
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TQDM_DISABLE": "1",
    }


def _error(value: dict[str, str]) -> FlockError:
    kind = UnusableBase if value["kind"] == UnusableBase.__name__ else getattr(errors, value["kind"], Unavailable)
    if not (isinstance(kind, type) and issubclass(kind, FlockError)):
        kind = Unavailable
    return kind(value["message"])


def mix_seeds(*parts: int) -> int:
    """One seed from several, below 2^53 so that JSON keeps it."""
    from hashlib import sha256

    return int.from_bytes(sha256(":".join(map(str, parts)).encode()).digest()[:6], "big")
