"""Several processes as one trainer: the base in equal parts (FSDP2), LoRA whole in each, a batch shared out.

Started by torchrun, a process per GPU, or per CPU for tests. The first one speaks with the client and writes files; the
others are told what it is asked, and do the same. Needs torch.
"""

import ctypes
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from flock_chain.errors import Misuse
from flock_peers.training.base_check import UnusableBase
from flock_peers.training.streams import Windows

IDLE = timedelta(days=365)  # between two requests may pass any number of rounds
WAIT_SECONDS = 30.0  # of a process that failed, for the others; what they do without it takes less
_PR_SET_PDEATHSIG = 1

Failure = tuple[str, str]  # kind and message


@dataclass(frozen=True)
class Group:
    rank: int
    size: int
    device: torch.device
    control: Any  # a group over gloo, for what is no tensor of the model

    @property
    def is_first(self) -> bool:
        return self.rank == 0


def open_group() -> Group:
    """From torchrun's environment. Each process goes with the one that started it."""
    if os.uname().sysname == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=IDLE)
    control = dist.new_group(backend="gloo", timeout=IDLE)
    return Group(dist.get_rank(), dist.get_world_size(), device, control)


def tell(group: Group, request: dict[str, Any] | None, source: int = 0) -> dict[str, Any]:
    """What the first (or the `source`) was asked, to all; the others give None and wait. JSON: a pickle would run."""
    data = json.dumps(request).encode() if request is not None else b""
    length = torch.tensor([len(data)])
    dist.broadcast(length, source, group=group.control)
    buffer = torch.frombuffer(bytearray(data or bytes(int(length))), dtype=torch.uint8)
    dist.broadcast(buffer, source, group=group.control)
    found: dict[str, Any] = json.loads(buffer.numpy().tobytes())
    return found


@contextmanager
def first_alone(group: Group | None) -> Iterator[None]:
    """The first goes through, then the others: what it wrote they read."""
    if group is not None and not group.is_first:
        dist.barrier(group=group.control)
    try:
        yield
    finally:
        if group is not None and group.is_first:
            dist.barrier(group=group.control)


def agree(group: Group, failure: Failure | None, give_up: Callable[[], None]) -> Failure | None:
    """How what all were asked ended, where all come to its end: the failure of the first that failed, or None.

    Who failed may be waited for inside of a computation, for ever: after WAIT_SECONDS it gives up for all.
    """
    timer = threading.Timer(WAIT_SECONDS, give_up)
    timer.daemon = True
    if failure is not None:
        timer.start()
    failed = [torch.zeros(1, dtype=torch.int64) for _ in range(group.size)]
    dist.all_gather(failed, torch.tensor([int(failure is not None)]), group=group.control)
    timer.cancel()
    source = next((rank for rank, flag in enumerate(failed) if flag.item()), None)
    if source is None:
        return None
    own = {"failure": failure} if group.rank == source else None
    kind, message = tell(group, own, source)["failure"]
    return kind, message


def load_sharded(load: Any, make_empty: Any, group: Group) -> Any:
    """`load` reads the weights, in the first process only; the others get their part of each layer from it.

    Embeddings, the last norm and the head stay whole in each: the loss reads them outside of any layer.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = _load_alike(load if group.is_first else make_empty, group)
    model.requires_grad_(False)
    weights = model.state_dict() if group.is_first else {}
    buffers = {name: value for name, value in model.named_buffers() if name not in model.state_dict()}
    if not group.is_first:
        model.to_empty(device=group.device)
    else:
        weights = {name: value.clone() for name, value in weights.items()}
        model.to(group.device)
    mesh = init_device_mesh(group.device.type, (group.size,))
    layers = find_layers(model)
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    inside = {value for layer in layers for value in layer.parameters()}
    backbone = getattr(model, model.base_model_prefix)
    fully_shard(backbone, mesh=mesh, ignored_params={value for value in backbone.parameters() if value not in inside})
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
    set_model_state_dict(model, weights, options=options)
    model.tie_weights()
    for name, _ in sorted(buffers.items()):
        dist.broadcast(model.get_buffer(name), 0)
    return model


def _load_alike(load: Any, group: Group) -> Any:
    """Before anybody waits for weights: the reason of the first that has no model is everybody's."""
    model, failure = None, None
    try:
        model = load()
    except UnusableBase as error:
        failure = (type(error).__name__, str(error))
    failure = agree(group, failure, lambda: None)  # nobody is in a computation, so nobody needs to be given up
    if failure is not None:
        raise UnusableBase(failure[1])
    return model


def find_layers(model: Any) -> list[Any]:
    """The decoder layers: the one list of modules that has as many as the configuration says."""
    count = model.config.get_text_config().num_hidden_layers
    lists = [part for part in model.modules() if isinstance(part, torch.nn.ModuleList) and len(part) == count]
    if len(lists) != 1:
        raise Misuse(f"base model: {len(lists)} lists of {count} layers; a base that is not one stack cannot be shared")
    return list(lists[0])


def take_share(windows: Windows, group: Group) -> Windows:
    """This process' windows of a batch: equally many in each, for all layers are gathered by all at once.

    Where the batch does not divide, the last ones have a window again, without weight.
    """
    count = -(-len(windows.tokens) // group.size)
    index = np.arange(group.rank * count, (group.rank + 1) * count)
    last = len(windows.tokens) - 1
    weights = windows.weights[np.minimum(index, last)] * (index <= last)[:, None].astype(np.float32)
    rows = None if windows.rows is None else windows.rows[np.minimum(index, last)]
    return Windows(windows.tokens[np.minimum(index, last)], weights, rows)


def sum_up(tensor: torch.Tensor) -> torch.Tensor:
    """Over all processes, in place."""
    dist.all_reduce(tensor)
    return tensor


def wanted_processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def make_empty_base(folder: Path, attention: str, **options: Any) -> Any:
    """The model without weights or memory."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(
            config, trust_remote_code=False, attn_implementation=attention, **options
        )
