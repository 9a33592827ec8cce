"""`rules`, `send` and `task open` as their user sees them, against a control socket that answers what a peer would."""

import json
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from execution_support import GENESIS_TIME, make_genesis
from family_support import make_unknown

from flock_chain.board_rules import NAMES, decode_board_rules
from flock_chain.content import format_cid
from flock_p2p.cli import EXIT_REFUSED, main
from flock_peers.base_giver import Giving
from flock_peers.control import serve_control
from flock_peers.home import Home
from flock_peers.training.base_manifest import describe_base
from flock_peers.training.client import BASE_FOLDER

COIN = 10**18
NUMBERS = {name: str(index + 1) for index, name in enumerate(NAMES)}
STATUS: dict[str, Any] = {
    "version": 1, "rules": NUMBERS, "next": None, "enact_at": 0, "agreements": 0, "chain_time": 50, "is_member": True,
    "under_way": False,
}  # fmt: skip
ROW = {
    "task": 3, "document": "ab" * 32, "round": 1, "rounds": 3, "phase": "WAITING", "pot": str(9 * COIN),
    "is_creator": True, "bond": "0", "claimable": "0", "unbonding": "0", "is_leaving": False,
    "is_unseated": False, "missed": 0, "chain_time": 5,
    "delegated": {"pool": "0", "limit": "0"},
}  # fmt: skip


@contextmanager
def answering(
    home: Home, *, opens: bool = False, looks: int = 1, first: Mapping[str, list[Any]] | None = None
) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """A control socket of a peer that does what it is told at once. `opens`: the task is there only then, seen at so
    many looks. `first`: what it answers before it does."""
    asked: list[tuple[str, dict[str, Any]]] = []
    ready, tokens, scope = threading.Event(), list[trio.lowlevel.TrioToken](), trio.CancelScope()
    answers: dict[str, Any] = {
        "send": {"sent": True}, "sent": {"under_way": False, "balance": "1", "their_balance": str(3 * COIN)},
        "give_base": None, "giving": None, "open_task": {"document": ROW["document"]}, "task": ROW,
        "reference": {"task": ROW["task"], "reference": "How many?\n"},
    }  # fmt: skip

    def method(name: str) -> Any:
        async def answer(params: Any) -> Any:
            await trio.lowlevel.checkpoint()
            asked.append((name, dict(params)))
            if first and first.get(name):
                return first[name].pop(0)
            if name == "rules":
                return STATUS if params["action"] == "status" else {"sent": True}
            if name == "task" and opens and not any(each == "open_task" for each, _ in asked[:-looks]):
                return ROW | {"task": ROW["task"] - 1}  # of the same document, which may be opened again
            return answers[name]

        return answer

    async def serve() -> None:
        tokens.append(trio.lowlevel.current_trio_token())
        with scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(
                    serve_control, home.control_path, {name: method(name) for name in [*answers, "rules"]}
                )
                ready.set()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert ready.wait(10)
    try:
        yield asked
    finally:
        tokens[0].run_sync_soon(scope.cancel)
        thread.join(10)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.path.mkdir()
    home.store_genesis(make_genesis().encode())
    return home


def test_a_proposed_document_is_approved_by_its_hash(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "rules.json")
    with answering(home) as asked:
        common = ["--home", str(home.path), "--document", file]
        assert main(["rules", "propose", *common, "--set", "task_fee=77", "--set", "norm_slash=9"]) == 0
        out = capsys.readouterr().out
        document = decode_board_rules(Path(file).read_bytes())
        assert document.hash.hex() in out and "changes   task_fee from 10 to 77" in out
        assert main(["rules", "approve", *common, "--hash", "00" * 32]) == EXIT_REFUSED
        assert "not the one that you gave" in capsys.readouterr().err
        assert all(params["action"] == "status" for _, params in asked)
        assert main(["rules", "approve", *common, "--hash", document.hash.hex()]) == 0
        assert ("rules", {"action": "approve", "rules": NUMBERS | {"task_fee": "77", "norm_slash": "9"}}) in asked
        assert "sent; it is final" in capsys.readouterr().out
        assert main(["rules", "enact", "--home", str(home.path), "--json"]) == 0
        assert ("rules", {"action": "enact"}) in asked and json.loads(capsys.readouterr().out) == STATUS
        assert main(["rules", "--home", str(home.path)]) == 0
        assert "agreed     on no others" in capsys.readouterr().out


def test_a_document_of_another_network_is_refused(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rules.json"
    with answering(home) as asked:
        assert main(["rules", "propose", "--home", str(home.path), "--document", str(file), "--set", "task_fee=1"]) == 0
        other = Home(tmp_path / "other")
        other.path.mkdir()
        other.store_genesis(make_genesis(timestamp=GENESIS_TIME + 1).encode())
        wanted = decode_board_rules(file.read_bytes()).hash.hex()
        asked.clear()
        arguments = ["rules", "approve", "--home", str(other.path), "--document", str(file), "--hash", wanted]
        assert main(arguments) == EXIT_REFUSED and not asked
        assert "for another network" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("rules", "propose", "--document", "f"), "rules propose needs --set"),
        (("rules", "propose", "--set", "task_fee=1"), "rules propose needs --document"),
        (("rules", "propose", "--document", "f", "--set", "task_fee=-1"), "no change of a number"),
        (("rules", "propose", "--document", "f", "--set", "tax=1"), "the board has no number tax"),
        (("rules", "propose", "--document", "f", "--set", "seed_delay=1"), "in force already"),
        (("rules", "approve", "--document", "f"), "rules approve needs --hash"),
        (("rules", "enact", "--set", "task_fee=1"), "rules enact takes no --set"),
        (("rules", "show", "--hash", "aa"), "rules show takes no --hash"),
        (("send", "--to", "zz", "--amount", "1"), "'zz' is no account"),
        (("send", "--to", "11" * 20, "--amount", "x"), "'x' is no amount"),
        (("task", "open"), "task create needs --pot"),
        (("task", "leave", "--rounds", "2"), "takes none of --pot"),
        (("task", "leave", "--pot", "5"), "task leave takes none of --pot"),
        (("task", "reference", "--reference", "f"), "task reference takes none of --pot"),
        (("task", "reference", "--audit-rounds", "2"), "task reference takes none of --pot"),
    ],
)
def test_a_wrong_order_is_refused_before_anything_is_sent(
    arguments: tuple[str, ...], word: str, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(home) as asked:
        assert main([*arguments, "--home", str(home.path)]) == 2
    assert word in capsys.readouterr().err
    assert all(params == {"action": "status"} for _, params in asked)


def test_coins_are_sent_and_a_task_is_opened(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(home) as asked:
        assert main(["send", "--home", str(home.path), "--to", "11" * 20, "--amount", "2.5"]) == 0
        assert asked[0] == ("send", {"to": "0x" + "11" * 20, "amount": str(5 * COIN // 2)})
        assert "it is final\nto         0x1111" in capsys.readouterr().out
    file = tmp_path / "task.json"
    file.write_text('{"name": "mine", "terms": {"rounds": 5}}')
    with answering(home, opens=True) as asked:
        assert main(["task", "open", "--home", str(home.path), "--pot", "9", "--document", str(file)]) == 0
        assert asked[0] == ("give_base", {"folder": None})
        assert asked[2] == ("open_task", {"pot": str(9 * COIN), "base": None, "name": "mine", "terms": {"rounds": 5}})
        assert "task       3, round 1" in capsys.readouterr().out
        for text, word in (("[]", "an object with some of"), ("{", "not JSON"), ('{"pot": 1}', "an object with some")):
            file.write_text(text)
            assert main(["task", "open", "--home", str(home.path), "--pot", "9", "--document", str(file)]) == 2
            assert word in capsys.readouterr().err


def test_a_task_on_a_model_that_no_trainer_opens_is_refused_before_the_peer_is_asked(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_unknown(tmp_path / "base")
    with answering(home) as asked:
        assert main(["task", "create", "--home", str(home.path), "--pot", "9", "--model", str(folder)]) == 2
    assert not asked and f"base model {folder}: cannot be loaded" in capsys.readouterr().err


def test_an_own_base_whose_trial_took_longer_than_the_peer_waits_for_a_question_is_ordered_again(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    giving = Giving(shutil.copytree(BASE_FOLDER, tmp_path / "base"), bytes=5)
    base = describe_base(giving.folder)
    first = {
        "give_base": [giving.as_row(), replace(giving, base=base).as_row()],
        "giving": [replace(giving, error="whoever published it asks no more").as_row()],
    }
    with answering(home, opens=True, first=first) as asked:
        assert main(["task", "create", "--home", str(home.path), "--pot", "9"]) == 0
    assert [name for name, _ in asked[:3]] == ["give_base", "giving", "give_base"]
    assert f"base       {format_cid(base.digest)}; " in capsys.readouterr().out
    assert ("open_task", {"pot": str(9 * COIN), "base": format_cid(base.digest)}) in asked


def test_a_task_is_opened_on_its_own_base_though_another_was_published_meanwhile(home: Home) -> None:
    """Of two orders at once both were opened on the model that came last."""
    own = Giving(BASE_FOLDER, bytes=5)
    base = describe_base(own.folder)
    first = {"give_base": [own.as_row()], "giving": [replace(own, base=base).as_row()]}
    with answering(home, opens=True, first=first) as asked:
        assert main(["task", "create", "--home", str(home.path), "--pot", "9", "--model", str(own.folder)]) == 0
    assert asked[1] == ("giving", {"folder": str(own.folder)}), "it asks of its own"
    assert ("open_task", {"pot": str(9 * COIN), "base": format_cid(base.digest)}) in asked


def test_a_base_is_ordered_again_of_a_peer_that_was_started_again_meanwhile(home: Home) -> None:
    own = Giving(BASE_FOLDER, bytes=5)
    base = describe_base(own.folder)
    first = {"give_base": [own.as_row(), replace(own, base=base).as_row()], "giving": [{}]}
    with answering(home, opens=True, first=first) as asked:
        assert main(["task", "create", "--home", str(home.path), "--pot", "9", "--model", str(own.folder)]) == 0
    assert asked[2] == ("give_base", {"folder": str(own.folder)})
    assert ("open_task", {"pot": str(9 * COIN), "base": format_cid(base.digest)}) in asked


def test_the_text_of_a_reference_is_sent_and_what_the_peer_says_is_shown(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "reference.txt").write_bytes(b"How many?\r\n")
    create = ["task", "create", "--home", str(home.path), "--pot", "9", "--audit-rounds", "2"]
    with answering(home, opens=True) as asked:
        assert main([*create, "--reference", str(tmp_path / "reference.txt")]) == 0
        opened = {"pot": str(9 * COIN), "base": None, "terms": {"audit_rounds": 2}, "reference": "How many?\n"}
        assert asked[2] == ("open_task", opened)
        assert main(["task", "reference", "--home", str(home.path), "--task", "3"]) == 0
        assert asked[-1] == ("reference", {"task": 3}) and capsys.readouterr().out.endswith("\nHow many?\n")


def test_a_task_that_is_not_final_yet_is_one_object_for_a_script_too(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flock_p2p.commands.task.OPEN_SECONDS", 0.0)
    with answering(home, opens=True, looks=99):
        assert main(["task", "create", "--home", str(home.path), "--pot", "9", "--wait", "0", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"task": None, "document": ROW["document"]} and "not final yet" in said.err
