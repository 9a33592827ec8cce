"""The trainer process: `python -m flock_peers.training.process`. Answers framed requests on stdin, one at a time.

The only process that imports torch. It ends when its stdin does, that is with its parent. Standard output belongs to
the frames; whatever a library prints goes to standard error, which the client keeps in a file.
"""

import os
import queue
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from flock_chain.aggregation import compute_global_file_bytes
from flock_chain.errors import FlockError, Misuse
from flock_peers.training.limits import close_network, limit_files, limit_memory
from flock_peers.training.reasons import REASON, describe, is_about_memory
from flock_peers.training.wire import encode_frame, read_frame

if TYPE_CHECKING:
    from flock_peers.training.privacy import Privacy, PrivacyLedger
    from flock_peers.training.sharding import Group

FAILED = 70  # exit code after an error that is none of ours
NICENESS = 10  # consensus and network go first on a small machine
OOM_SCORE = 800  # of -1000 to 1000
MAX_WAITING_REQUESTS = 8  # the client sends one at a time; more would be a bug there

Report = Callable[[dict[str, Any]], None]


class Service:
    """The methods that a client may call, on an engine that `open` makes."""

    def __init__(self, group: "Group | None" = None) -> None:
        self.group = group  # of processes, where torchrun started several
        self._methods: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "open": self._open,
            "train": self._train,
            "isolated": self._isolated,
            "measure": self._measure,
            "likeness": self._likeness,
            "audit": self._audit,
            "evaluate": self._evaluate,
            "attack_success": self._attack_success,
            "export": self._export,
        }

    def call(self, method: str, values: dict[str, Any], report: Report) -> dict[str, Any]:
        if method not in self._methods:
            raise Misuse(f"trainer: no method {method!r}")
        self._report = report
        return self._methods[method](values)

    def _open(self, values: dict[str, Any]) -> dict[str, Any]:
        """The data is read and the base checked before torch is imported: their errors come within a second."""
        from flock_peers.training.client import BASE_FOLDER
        from flock_peers.training.data_format import check_rows
        from flock_peers.training.document import check_base, decode_document
        from flock_peers.training.rows import Refusals, builtin_rows, read_rows, split_rows
        from flock_peers.training.tokenizer_trial import check_tokenizer

        if self.group is not None:
            from flock_peers.training.sharding import first_alone
        refusals = Refusals()
        self.document = decode_document(bytes.fromhex(values["document"]))
        self.base = Path(values["base"])
        check_base(self.base, self.document)
        path = _path(values["rows"])
        rows = read_rows(path, refusals) if path else builtin_rows(values["domain"], values["index"])
        check_rows(rows, self.document.data, f"data {path or values['domain']}")
        group = self.group
        with first_alone(group) if group is not None else nullcontext():
            split = split_rows(rows, Path(values["home"]) / "split.json")
        limit_files(compute_global_file_bytes(self.document.layout))
        if self.base != BASE_FOLDER:
            check_tokenizer(self.base, self.document.reference, split.train)
        self._report({"state": "loading"})
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(values["seed"])
        from flock_peers.training.engine import Engine
        from flock_peers.training.feedback import Feedback
        from flock_peers.training.memory import RUNTIME_BYTES, check_memory, plan_document, read_free_memory
        from flock_peers.training.model import AdaptedModel
        from flock_peers.training.precision import choose_precision
        from flock_peers.training.remembered import Remembered

        self.seed = int(values["seed"])
        precision = choose_precision(values["precision"])
        gpus = (1 if group is None else group.size) if torch.cuda.is_available() else 0
        plan = plan_document(self.base, self.document, precision, values["checkpointing"], gpus)
        if gpus:
            check_memory(plan, torch.cuda.mem_get_info()[0])
        elif group is None:
            check_memory(plan, read_free_memory() + RUNTIME_BYTES)  # most of the runtime is here already
            limit_memory(plan.total)
        model = AdaptedModel(
            self.base, self.document, precision=precision, checkpoints=values["checkpointing"], group=group
        )
        privacy = _open_privacy(values["privacy"], Path(values["home"]), len(split.train))
        if privacy is not None and group is not None:
            raise Misuse("privacy: with one process only, for each of several would add noise of its own")
        feedback = Feedback(Path(values["home"]), self.document.encode(), self.document.layout.parameters)
        path, is_first = Path(values["home"]) / "remembered.json", group is None or group.is_first
        self.remembered = Remembered(path, self.document.encode(), writes=is_first)
        self.engine = Engine(model, self.document, split, values["attack"], privacy=privacy, feedback=feedback)
        self.engine.check_privacy()
        self._report({"state": "ready"})
        return {
            "train_rows": len(split.train),
            "hold_out_rows": len(split.hold_out),
            "parameters": self.document.layout.parameters,
            "refused": refusals.named + self.engine.refusals.named,
            "refused_count": refusals.count + self.engine.refusals.count,
            "planned_bytes": plan.total,
            "base_bytes_here": model.count_base_bytes(),
            "is_isolating": self.engine.model.is_isolating,
        }

    def _train(self, values: dict[str, Any]) -> dict[str, Any]:
        return asdict(self.engine.train(Path(values["global"]), values["seed"], Path(values["out"]), self._report))

    def _isolated(self, values: dict[str, Any]) -> dict[str, Any]:
        out = Path(values["out"])
        start, rounds, seed = Path(values["global"]), values["rounds"], values["seed"]
        return asdict(self.engine.train_isolated(start, rounds, seed, out, self._report))

    def _measure(self, values: dict[str, Any]) -> dict[str, Any]:
        return {"scores": self.engine.score(Path(values["global"]), [Path(path) for path in values["deltas"]])}

    def _likeness(self, values: dict[str, Any]) -> dict[str, Any]:
        from flock_peers.training.inspection import measure_likeness

        deltas = [Path(path) for path in values["deltas"]]
        return {"likeness": measure_likeness(self.engine, Path(values["global"]), deltas, values["seed"])}

    def _audit(self, values: dict[str, Any]) -> dict[str, Any]:
        from flock_peers.training.inspection import audit

        proposals, older = ([(Path(a), Path(b)) for a, b in values[name]] for name in ("proposals", "older"))
        seeds = values["seed"], values["own_seed"]
        results = audit(self.engine, proposals, *seeds, values["authors"], self.remembered, older)
        return {"measured": [asdict(result) for result in results]}

    def _evaluate(self, values: dict[str, Any]) -> dict[str, Any]:
        return self.engine.evaluate(_path(values["adapter"]), values["split"])

    def _attack_success(self, values: dict[str, Any]) -> dict[str, Any]:
        return {"share": self.engine.attack_success(_path(values["adapter"]))}

    def _export(self, values: dict[str, Any]) -> dict[str, Any]:
        from flock_peers.training.export import export_adapter

        vector = self.engine.read_global(Path(values["global"])).to_float32()
        if self.group is None or self.group.is_first:
            export_adapter(self.engine.model, self.document, self.base, vector, Path(values["folder"]))
        return {}


def _open_privacy(values: dict[str, float] | None, home: Path, rows: int) -> "tuple[Privacy, PrivacyLedger] | None":
    from flock_peers.training.privacy import Privacy, PrivacyLedger, check_rows

    if values is None:
        return None
    privacy = Privacy(**values)
    check_rows(privacy, rows)
    return privacy, PrivacyLedger(home / "privacy.json", privacy)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def answer(service: Service, request: dict[str, Any], write: Callable[[dict[str, Any]], None]) -> None:
    """One request, one answer that carries its id; progress reports in between."""
    identity = request["id"]
    result: dict[str, Any] = {}
    failure: tuple[str, str] | None = None
    try:
        result = service.call(
            request["method"], request["values"], lambda event: write({"id": identity, "progress": event})
        )
    except FlockError as error:
        failure = (type(error).__name__, str(error))
    except Exception as error:  # noqa: BLE001 - the process' edge: torch raises anything, and the peer must learn of it
        sys.excepthook(type(error), error, error.__traceback__)
        _end(identity, REASON + _describe(error), write)
    if service.group is not None:
        failure = _agree(service.group, identity, failure, write)
    if failure is None:
        write({"id": identity, "result": result})
    else:
        write({"id": identity, "error": {"kind": failure[0], "message": failure[1]}})


def _agree(
    group: "Group", identity: int, failure: tuple[str, str] | None, write: Callable[[dict[str, Any]], None]
) -> tuple[str, str] | None:
    """In step again with the others, or with none: torchrun ends all of a group where one process ends."""
    from flock_peers.training.sharding import agree

    message = "" if failure is None else f"{REASON}process {group.rank} of {group.size} failed alone: {failure[1]}"
    return agree(group, failure, lambda: _end(identity, message, write))


def _end(identity: int, message: str, write: Callable[[dict[str, Any]], None]) -> NoReturn:
    """After an allocation that failed or a CUDA assert, nothing in this process can be relied on."""
    print(message, file=sys.stderr, flush=True)
    write({"id": identity, "error": {"kind": "Unavailable", "message": message}, "ends": True})
    os._exit(FAILED)


def _describe(error: BaseException) -> str:
    return f"out of memory ({describe(error)})" if is_about_memory(error) else describe(error)


def _read_requests(stream: BinaryIO, requests: "queue.Queue[dict[str, Any]]") -> None:
    """In a thread, so that the end of stdin ends the process in the middle of a training step too."""
    while (request := read_frame(stream)) is not None:
        requests.put(request)
    os._exit(0)


def _be_the_first_to_go() -> None:
    """A task that asks for more memory than there is ends its trainer, which comes back, and not the validator."""
    with suppress(OSError):  # elsewhere than on Linux
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))


def main() -> None:
    os.nice(NICENESS)
    _be_the_first_to_go()
    is_shared = "TORCHELASTIC_RUN_ID" in os.environ
    if not is_shared and not close_network():  # several processes speak with each other
        print("no kernel filter here: only Python's own sockets are closed", file=sys.stderr)
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a stray print must not break a frame
    if is_shared:
        _serve_together(output)
        return
    requests: queue.Queue[dict[str, Any]] = queue.Queue(MAX_WAITING_REQUESTS)
    threading.Thread(target=_read_requests, args=(sys.stdin.buffer, requests), daemon=True).start()
    service, write = Service(), _make_writer(output)
    while True:
        answer(service, requests.get(), write)


def _make_writer(output: BinaryIO) -> Callable[[dict[str, Any]], None]:
    def write(value: dict[str, Any]) -> None:
        output.write(encode_frame(value))
        output.flush()

    return write


def _serve_together(output: BinaryIO) -> None:
    """Under torchrun: the first process reads requests and writes answers, all of them do what is asked."""
    import torch

    torch.set_num_threads(1)
    from flock_peers.training.sharding import open_group, tell

    group = open_group()
    requests: queue.Queue[dict[str, Any]] = queue.Queue(MAX_WAITING_REQUESTS)
    if group.is_first:
        threading.Thread(target=_read_requests, args=(sys.stdin.buffer, requests), daemon=True).start()
    write = _make_writer(output) if group.is_first else lambda _value: None
    service = Service(group)
    while True:
        answer(service, tell(group, requests.get() if group.is_first else None), write)


if __name__ == "__main__":
    main()
