"""What people are told of a task's document, and of who has its base model."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from base_support import make_base, make_document
from clock_support import on_stepped_clock

from flock_chain.aggregation import Format
from flock_chain.aggregation.format import RATE_ONE
from flock_chain.content import format_cid, object_digest
from flock_chain.crypto import Account
from flock_chain.errors import Misuse, Unavailable
from flock_p2p.cli import build_parser
from flock_p2p.commands.task import choose_wanted, format_about, format_list, format_reference, read_reference
from flock_peers.bases import Bases, BaseTerms
from flock_peers.contents import Contents
from flock_peers.peer_control import PeerControl
from flock_peers.store.blob_store import BlobStore
from flock_peers.task_facts import DOCUMENT_SECONDS, TaskFacts
from flock_peers.training.text_files import read_text

HOLDER = Account(b"h" * 20)


class Network:
    """Has what it was given; the rest it looks for in vain, and slowly."""

    def __init__(self) -> None:
        self.objects: dict[bytes, bytes] = {}
        self.asked: list[bytes] = []

    async def fetch_object(self, digest: bytes, _providers: Sequence[Account] | None = None) -> bytes:
        self.asked.append(digest)
        if digest not in self.objects:
            await trio.sleep(60)
            raise Unavailable("nobody has it")
        return self.objects[digest]

    async def fetch_file(self, *_: Any, **__: Any) -> Path:
        raise AssertionError

    async def find_holders(self, _digest: bytes, _seconds: float) -> list[Account]:
        return [HOLDER]


@on_stepped_clock
async def test_of_documents_that_can_be_had_name_base_and_rows_are_told_and_nobody_waits_for_the_others(
    tmp_path: Path,
) -> None:
    network, folder = Network(), make_base(tmp_path / "base")
    document = make_document(folder, data="chat")
    digest, junk, gone = bytes(object_digest(document.encode())), bytes(object_digest(b"junk")), b"g" * 32
    network.objects = {digest: document.encode(), junk: b"junk"}
    contents = Contents(BlobStore(tmp_path / "blobs"), network)
    facts = TaskFacts(contents, network, Bases(tmp_path / "bases", contents, BaseTerms(folders=(folder,))))
    began = trio.current_time()
    found = await facts.describe([digest, junk, gone])
    assert trio.current_time() - began < DOCUMENT_SECONDS + 1 and list(found) == [digest]
    about = found[digest]
    assert about["base"] == format_cid(document.base.digest) and about["base_bytes"] == document.base.size
    assert about["is_here"] and about["data"] == "chat" and about["providers"] == ["0x" + HOLDER.hex()]
    network.asked.clear()
    await facts.describe([digest])
    assert not network.asked
    (folder / "model.safetensors").unlink()
    assert not (await facts.describe([digest]))[digest]["is_here"]  # as it is now, not when it was first asked for
    text = "\n".join(format_about(about))
    assert f"{about['base']}, 4 files" in text and "here; 1 of the connected peers serve it" in text
    assert "chat rows, sequences of 8 tokens; 2 steps of 1 sequence a round" in text
    assert format_about(None) == ["document   at no connected peer now"]


@on_stepped_clock
async def test_a_reference_is_read_whole_and_not_waited_for_longer_than_other_documents(tmp_path: Path) -> None:
    network, folder = Network(), make_base(tmp_path / "base")
    text = "Combien coûte?\n" * 1_250
    document = replace(make_document(folder), reference=text).encode()
    network.objects = {bytes(object_digest(document)): document}
    contents = Contents(BlobStore(tmp_path / "blobs"), network)
    facts = TaskFacts(contents, network, Bases(tmp_path / "bases", contents, BaseTerms(folders=(folder,))))
    assert await facts.read_reference(bytes(object_digest(document))) == text
    found = await facts.describe([bytes(object_digest(document))])
    assert "reference  20.0 kB of text" in "\n".join(format_about(found[bytes(object_digest(document))]))
    began = trio.current_time()
    with pytest.raises(Unavailable, match="at no connected peer now; try again"):
        await facts.read_reference(b"g" * 32)
    assert trio.current_time() - began < DOCUMENT_SECONDS + 1
    shown = format_reference({"task": 3, "reference": "one\x1b[2J\ttwo\n" + "x" * 5_000})
    assert shown == "one?[2J two\n" + "x" * 5_000
    assert "task 3 has no reference" in format_reference({"task": 3, "reference": ""})


@on_stepped_clock
async def test_who_joins_is_told_where_a_round_adds_more_or_less_than_the_mean(tmp_path: Path) -> None:
    network, folder = Network(), make_base(tmp_path / "base")
    rates = {RATE_ONE: None, 4_000: "4 times", 1_500: "1.5 times", 100: "0.1 times"}
    plain = make_document(folder)
    documents = [replace(plain, format=Format(server_lr_thousandths=rate)).encode() for rate in rates]
    network.objects = {bytes(object_digest(document)): document for document in documents}
    contents = Contents(BlobStore(tmp_path / "blobs"), network)
    facts = TaskFacts(contents, network, Bases(tmp_path / "bases", contents, BaseTerms(folders=(folder,))))
    found = await facts.describe(list(network.objects))
    for digest, said in zip(network.objects, rates.values(), strict=True):
        lines = [line for line in format_about(found[digest]) if line.startswith("rate ")]
        assert bool(lines) == bool(said) and (not said or f" a round adds {said} the mean of what it " in lines[0])


class Board:
    """Three tasks, of which each has a document of its own."""

    async def view(self, _contract: str, function: str, *arguments: int) -> Any:
        await trio.lowlevel.checkpoint()
        return 3 if function == "task_count" else {"document": bytes(arguments) * 32}

    async def read_reference(self, digest: bytes) -> str:
        await trio.lowlevel.checkpoint()
        return f"of document {digest[0]}"


@on_stepped_clock
async def test_the_reference_of_the_task_that_is_named_is_read_and_by_default_of_the_newest() -> None:
    peer: Any = SimpleNamespace(ledger=Board(), facts=Board())
    for params, task in (({}, 3), ({"task": 1}, 1), ({"task": 2}, 2)):
        found = await PeerControl._read_reference(peer, params)
        assert found == {"task": task, "reference": f"of document {task}"}


def test_a_reference_without_audits_is_refused_and_both_come_into_what_is_wanted(tmp_path: Path) -> None:
    file = tmp_path / "reference.txt"
    file.write_text("How many?")

    def parse(*more: str) -> dict[str, Any]:
        return choose_wanted(build_parser().parse_args(["task", "create", "--pot", "1", *more]))

    with pytest.raises(Misuse, match="a reference is for audits, and this task has none; add --audit-rounds N"):
        parse("--reference", str(file))
    wanted = parse("--reference", str(file), "--audit-rounds", "2", "--rounds", "5")
    assert wanted == {"reference": "How many?", "terms": {"rounds": 5, "audit_rounds": 2}}
    document = tmp_path / "task.json"
    document.write_text('{"terms": {"audit_rounds": 3, "rounds": 4}}')
    wanted = parse("--document", str(document), "--rounds", "6", "--reference", str(file))
    assert wanted["terms"] == {"audit_rounds": 3, "rounds": 6}


def test_what_is_no_text_of_a_reference_s_size_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    file = tmp_path / "reference.txt"
    file.write_text("é" * 32_768)
    assert read_reference(file) == "é" * 32_768
    wrong = {b"": "at most 65536 bytes", b"x" * 65_537: "at most 65536 bytes", b"\xff": "UTF-8: .* byte 0"}
    for content, word in wrong.items():
        file.write_bytes(content)
        with pytest.raises(Misuse, match=word):
            read_reference(file)
    wrong |= {b" \n": "at most 65536 bytes", b"a\0b": "holds zero bytes", "a".encode("utf-16"): "UTF-8: .* byte 0"}
    wrong[b"\xef\xbb\xbf\r\n"] = "at most 65536 bytes"  # a mark of its order is no text
    for content, word in wrong.items():
        file.write_bytes(content)
        with pytest.raises(Misuse, match=word):
            read_reference(file)
    with pytest.raises(Misuse, match="No such file"):
        read_reference(tmp_path / "nothing")
    with pytest.raises(Misuse, match="Is a directory"):
        read_reference(tmp_path)
    for name in ("rows.jsonl", "ROWS.JSONL"):
        with pytest.raises(Misuse, match=rf"{name}: a reference is plain text, and no JSONL: write out"):
            read_reference(tmp_path / name)


def test_a_reference_is_read_where_it_is_said_to_lie_as_files_of_rows_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By who creates the task, from its own folder: the peer is told the text, and opens no file for anybody."""
    text = "How many?\nAs many as before.\n"
    (tmp_path / "reference.txt").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    (tmp_path / "link").symlink_to("reference.txt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("reference.txt", "link", "~/reference.txt", str(tmp_path / "reference.txt")):
        assert read_reference(Path(name)) == text, name
    os.mkfifo(tmp_path / "pipe")  # as a shell gives what another program writes
    with ThreadPoolExecutor(1) as writer:
        writer.submit((tmp_path / "pipe").write_text, text)
        assert read_reference(tmp_path / "pipe") == text
    rows = tmp_path / "rows.txt"
    rows.write_bytes((tmp_path / "reference.txt").read_bytes())
    assert list(read_text(rows, "rows.txt", lambda _where, _why: None)) == [text.strip("\n")]
    (tmp_path / "reference.txt").chmod(0)
    if os.geteuid():  # root reads everything
        with pytest.raises(Misuse, match="Permission denied"):
            read_reference(Path("link"))


def test_a_strangers_name_commands_no_terminal() -> None:
    about = {
        "name": "a\x1b[2J\ntask", "base": "bafkrei12345678", "base_bytes": 5_000_000, "base_files": 2, "is_here": False,
        "is_shipped": False, "providers": None, "data": "any", "seq_len": 96, "batch": 8, "steps": 24,
    }  # fmt: skip
    row = {
        "task": 1, "creator": "0x11", "round": 1, "rounds": 2, "phase": "COMMIT", "pot": "0", "min_bond": "0",
        "participants": 4, "about": about,
    }  # fmt: skip
    text = format_list({"count": 1, "tasks": [row]})
    assert "a?[2J?task" in text and "..12345678 5.0 MB, ? serve it" in text and "any, 96 tokens" in text
    assert "\x1b" not in "\n".join(format_about(about))
    shipped = about | {"is_shipped": True, "providers": []}
    assert "comes with the package" in "\n".join(format_about(shipped))
    assert "the package's, 5.0 MB" in format_list({"count": 1, "tasks": [row | {"about": shipped}]})
