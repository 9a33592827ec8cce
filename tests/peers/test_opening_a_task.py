"""What a creator may say of a task: each name is known, and nothing is lost by a slip."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from flock_chain.aggregation import Format
from flock_chain.crypto import Account
from flock_chain.errors import FlockError, Misuse, Refused, Unavailable
from flock_peers.contents import Contents
from flock_peers.store.blob_store import BlobStore
from flock_peers.store.kept_marks import find_document, new_task_owner
from flock_peers.tasks import PreparedTask, Terms, open_task, opening_label, parse_wanted
from flock_peers.training.document import Budget, LoraSettings


def test_what_is_left_out_has_a_default_and_what_is_said_holds() -> None:
    plain = parse_wanted({"pot": "1"})
    assert (plain.name, plain.terms, plain.budget, plain.lora) == ("task", Terms(), Budget(), LoraSettings())
    wanted = parse_wanted(
        {
            "name": "mine", "terms": {"rounds": 9, "min_bond": "70000000000000000000"}, "budget": {"steps": 3},
            "lora": {"rank": 4}, "targets": ["q_proj", "k_proj"], "data": "chat",
        }
    )  # fmt: skip
    assert (wanted.name, wanted.terms.rounds, wanted.terms.min_bond) == ("mine", 9, 70 * 10**18)
    assert (plain.data, wanted.data) == ("any", "chat")
    assert (plain.reference, parse_wanted({"reference": "How many?"}).reference) == ("", "How many?")
    assert (plain.format, parse_wanted({"bits": 4}).format) == (Format(), Format(bits=4, elo=-20))
    assert parse_wanted({"server_lr_thousandths": 2_000}).format == Format(server_lr_thousandths=2_000)
    assert wanted.budget.steps == 3 and wanted.lora == LoraSettings(4, 64, ("k_proj", "q_proj"))


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"terms": {"round": 3}}, "terms has no round; it has rounds, extra_rounds"),
        ({"terms": {"rounds": 1.5}}, "terms.rounds is no whole number"),
        ({"terms": {"rounds": True}}, "terms.rounds is no whole number"),
        ({"terms": {"rounds": "-1"}}, "terms.rounds is no whole number"),
        ({"terms": {"audit_rounds": -1}}, "terms.audit_rounds is no whole number from 0 on"),
        ({"terms": []}, r"terms has no \[\]"),
        ({"budget": {"epochs": 3}}, "budget has no epochs"),
        ({"lora": {"targets": 3}}, "lora has no targets"),
        ({"targets": "q_proj"}, "targets is a list"),
        ({"data": "images"}, "data is one of any, text, completions, chat"),
        ({"data": ["chat"]}, "data is one of"),
        ({"bits": 5}, "5 bits for a delta's numbers; 8 or 4 are known"),
        ({"bits": 4.0}, "bits is no whole number"),
        ({"server_lr_thousandths": 5_000}, "server_lr_thousandths is not between 100 and 4000"),
        ({"server_lr_thousandths": 2.5}, "server_lr_thousandths is no whole number"),
        ({"reference": ["How many?"]}, "a reference is text"),
    ],
)
def test_a_slip_is_refused_by_name(params: dict[str, Any], word: str) -> None:
    with pytest.raises(Misuse, match=word):
        parse_wanted(params)


class RefusingBoard:
    """A chain on which nobody can pay for a task, and the account that asks it."""

    account = Account(b"\x5b" * 20)

    async def view(self, *_question: Any, **_height: Any) -> Any:
        return 1

    async def simulate(self, *_call: Any, **_of: Any) -> None:
        raise Refused("this account has 0 coins")


class BusySender(RefusingBoard):
    """The board takes the task, but too much of the account's is under way."""

    is_busy = True

    async def simulate(self, *_call: Any, **_of: Any) -> None:
        pass

    async def call(self, label: str, *_call: Any, **_of: Any) -> bool:
        self.label = label
        return not self.is_busy


class Sender(BusySender):
    is_busy = False


def order(contents: Contents, board: Any, keep: Callable[[PreparedTask], None]) -> PreparedTask:
    return trio.run(lambda: open_task(parse_wanted({}), 5, contents, board, board, keep=keep))


@pytest.mark.parametrize(
    ("board", "kind", "words", "was_held"),
    [(RefusingBoard(), Refused, "0 coins", False), (BusySender(), Unavailable, "not final yet", True)],
    ids=["refused", "not sent"],
)
def test_nothing_is_held_for_a_task_that_never_comes(
    tmp_path: Path, board: Any, kind: type[FlockError], words: str, was_held: bool
) -> None:
    """Its base model, which may be as large as the disk, would stay; so did its document and first adapter."""
    store, held = BlobStore(tmp_path, 1 << 30), list[bytes]()
    contents = Contents(store, None)  # type: ignore[arg-type]

    def keep(task: PreparedTask) -> None:
        held.append(contents.of(new_task_owner(task.document)).put_object(b"base"))

    with pytest.raises(kind, match=words):
        order(contents, board, keep)
    assert bool(held) is was_held and store.used and not store.owners()


def test_what_a_task_was_opened_with_is_kept_for_it_until_it_has_a_number(tmp_path: Path) -> None:
    store, sender = BlobStore(tmp_path, 1 << 30), Sender()
    task = order(Contents(store, None), sender, lambda _task: None)  # type: ignore[arg-type]
    assert store.kept_by(new_task_owner(task.document)) == {task.document, task.adapter}
    (owner,) = store.owners()
    assert owner == new_task_owner(task.document) and sender.label == opening_label(find_document(owner))
