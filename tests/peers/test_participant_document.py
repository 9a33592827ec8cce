"""A stranger's task document, before any memory is given to what it describes."""

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from flock_chain.aggregation import Layout
from flock_chain.content import object_digest
from flock_chain.errors import InvalidContent, InvalidEncoding
from flock_peers.roles import library
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.document import Budget, TaskDocument, create_document, decode_document


class Store:
    def __init__(self, *objects: bytes) -> None:
        self.objects = {bytes(object_digest(data)): data for data in objects}

    def get_object(self, digest: bytes) -> bytes | None:
        return self.objects.get(digest)

    def put_object(self, _data: bytes) -> bytes:
        raise AssertionError

    put_bytes = put_object

    def file_path(self, _digest: bytes) -> Path | None:
        return None


def refuse(document: TaskDocument, match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = document.encode()
    store = Store(data)

    def never(_document: TaskDocument) -> None:
        raise AssertionError("a stranger's layout was given memory")

    monkeypatch.setattr(library, "compute_initial_adapter", never)
    with pytest.raises(InvalidContent, match=match):
        trio.run(library.open_library, 1, bytes(object_digest(data)), b"a" * 32, b"c" * 32, store, store)


@pytest.fixture(scope="module")
def document() -> TaskDocument:
    return create_document("a task", BASE_FOLDER, seed=b"\7" * 32)


def test_a_layout_beyond_the_local_base_is_refused_before_it_is_computed(
    document: TaskDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rank = document.lora.targets[0], document.lora.rank
    huge = Layout.of({
        f"base_model.model.m.{target}.lora_A.weight": (rank, 1 << 26),
        f"base_model.model.m.{target}.lora_B.weight": (1 << 26, rank),
    })  # fmt: skip
    refuse(replace(document, layout=huge), "layout", monkeypatch)


def test_a_task_on_another_base_model_is_refused_before_its_adapter_is_computed(
    document: TaskDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(document.base_files[0], digest=b"\1" * 32)
    refuse(replace(document, base_files=(other, *document.base_files[1:])), "wrong model hash", monkeypatch)


@pytest.mark.parametrize(
    "budget", [Budget(batch=4_096, seq_len=131_072), Budget(batch=1, seq_len=131_072, eval_windows=4_096)]
)
def test_a_budget_of_too_many_tokens_at_once_is_refused(document: TaskDocument, budget: Budget) -> None:
    with pytest.raises(InvalidEncoding, match="tokens"):
        decode_document(replace(document, budget=budget).encode())
