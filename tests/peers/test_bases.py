"""A task's base model on a joiner that has none of it: real hosts and stores, in one process."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trio
from base_support import encode_weights, make_base, make_document, with_file
from network_support import in_trio, open_hosts

from flock_chain.codec import decode, encode
from flock_chain.content import CHUNK_BYTES, compute_chunk_list, split_chunks
from flock_chain.errors import FlockError, InvalidContent, InvalidEncoding, InvalidRemote, Misuse, Unavailable
from flock_peers import bases as bases_module
from flock_peers.bases import Bases, BaseTerms, FoundBase, choose_folder
from flock_peers.contents import Contents
from flock_peers.network.blobs import BlobService
from flock_peers.network.host import Host
from flock_peers.roles.library import open_library
from flock_peers.store.blob_store import BlobStore
from flock_peers.store.kept_marks import BASE_COMING, task_owner
from flock_peers.training.base_check import check_base_folder
from flock_peers.training.base_manifest import MAX_CONFIG_BYTES, BaseFile, BaseManifest, check_files
from flock_peers.training.document import TaskDocument

TASK = 3
MIB_ROWS = CHUNK_BYTES // 32  # of the embedding
LARGE = b" " * (CHUNK_BYTES // 4)  # a file beside the weights that is much to fetch for nothing


@dataclass
class Place:
    """One peer's store, service and bases."""

    store: BlobStore
    service: BlobService
    bases: Bases

    async def find(self, document: TaskDocument) -> FoundBase:
        return await self.bases.find(TASK, document)


def place(host: Host, path: Path, *, quota: int = 1 << 30, **terms: Any) -> Place:
    store = BlobStore(path / "blobs", quota)
    service = BlobService(host, store)
    return Place(store, service, Bases(path / "bases", Contents(store, service), BaseTerms(folders=(), **terms)))


@asynccontextmanager
async def people(tmp_path: Path, givers: int = 1, **options: Any) -> AsyncIterator[tuple[list[Place], Place]]:
    async with open_hosts(givers + 1) as hosts:
        places = [place(host, tmp_path / f"giver{number}") for number, host in enumerate(hosts[:-1])]
        yield places, place(hosts[-1], tmp_path / "joiner", **options)


def give(places: list[Place], folder: Path) -> None:
    """The files in turn: nobody has all of them."""
    for number, path in enumerate(sorted(folder.iterdir())):
        places[number % len(places)].store.put_file(path)


def swap(document: TaskDocument, places: list[Place], name: str, data: bytes) -> TaskDocument:
    """The document as a hostile creator writes it: with other bytes under a name, which it serves."""
    chunks = compute_chunk_list(split_chunks(data))
    for one in places:
        one.store.put_chunks(chunks, iter(split_chunks(data)))
    return replace(document, base_files=with_file(document, BaseFile(name, len(data), chunks.digest)).files)


@in_trio(90)
async def test_a_base_comes_from_several_peers_none_of_which_has_all_of_it_and_is_then_served_to_the_next(
    tmp_path: Path,
) -> None:
    folder = make_base(tmp_path / "base", rows=3 * MIB_ROWS)
    document = make_document(folder)
    async with open_hosts(4) as hosts:
        givers = [place(host, tmp_path / f"giver{number}") for number, host in enumerate(hosts[:2])]
        give(givers, folder)
        first, second = (place(host, tmp_path / f"joiner{number}") for number, host in enumerate(hosts[2:]))
        found = await first.find(document)
        check_files(found.folder, document.base)
        assert found.is_fetched and first.bases.fetching is None and first.bases.is_here(document.base)
        assert all(giver.service.bytes_sent for giver in givers)
        assert first.store.kept_by(task_owner(TASK)) == {
            document.base.digest, *(file.digest for file in document.base_files),
        }  # fmt: skip
        assert BASE_COMING not in first.store.owners()
        assert await second.service.find_holders(document.base.digest, 5) == [hosts[2].account]
        sent = first.service.bytes_sent
        for giver in givers:  # who gave it is gone for good
            for digest in giver.store.list_kept():
                giver.store.drop(digest)
        check_files((await second.find(document)).folder, document.base)
        assert first.service.bytes_sent - sent > document.base.size


@in_trio(90)
async def test_what_a_folder_of_the_owner_holds_is_not_fetched(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base")
    async with open_hosts(1) as (host,):
        here = place(host, tmp_path / "joiner")
        bases = Bases(tmp_path / "bases", Contents(here.store, here.service), BaseTerms(folders=(tmp_path, folder)))
        found = await bases.find(TASK, make_document(folder))
        assert found == FoundBase(folder, release=found.release) and not found.is_fetched and not here.store.used
        with pytest.raises(
            Unavailable, match=r"wrong model hash.*cannot be fetched now: object \w+: no provider has it"
        ):
            await bases.find(TASK, make_document(make_base(tmp_path / "other", seed=2)))


@in_trio(90)
async def test_a_fetch_that_was_cut_goes_on_with_what_is_missing_in_a_new_process(tmp_path: Path) -> None:
    chunks = 6
    folder = make_base(tmp_path / "base", rows=chunks * MIB_ROWS)
    document = make_document(folder)
    async with open_hosts(3) as hosts:
        giver = place(hosts[0], tmp_path / "giver")
        give([giver], folder)
        real, reached, go_on = giver.store.read_chunk, trio.Event(), [False]
        token = trio.lowlevel.current_trio_token()
        served: list[int] = []
        weights = next(row for row in document.base.files if row.size > CHUNK_BYTES).digest

        def stored() -> set[int]:
            """The chunks of the weights that the joiner's disk has."""
            part = tmp_path / "joiner" / "blobs" / "parts" / weights.hex()
            found, listing = part.read_bytes() if part.exists() else b"", giver.store.chunk_list(weights)
            assert listing is not None
            pieces = [found[at : at + CHUNK_BYTES] for at in range(0, listing.size, CHUNK_BYTES)]
            return {index for index, piece in enumerate(pieces) if sha256(piece).digest() == listing.digests[index]}

        def read(digest: bytes, index: int) -> bytes | None:
            if digest == weights:
                if index >= chunks // 2 and not go_on[0]:
                    token.run_sync_soon(reached.set)
                    return None  # a provider that went away there
                served.append(index)
            return real(digest, index)

        giver.store.read_chunk = read  # type: ignore[method-assign]
        first = place(hosts[1], tmp_path / "joiner")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_ignore, first.find, document)
            await reached.wait()
            while not stored():
                await trio.sleep(0.01)
            row = first.bases.fetching.as_row([]) if first.bases.fetching else {}
            nursery.cancel_scope.cancel()
        assert row["files_done"] == 3 and row["task"] == TASK and 0 < row["done"] < row["bytes"] == document.base.size
        verified, go_on[0] = stored(), True
        served.clear()
        again = place(hosts[2], tmp_path / "joiner")  # what kill -9 leaves: the files alone
        check_files((await again.find(document)).folder, document.base)
        assert sorted([*verified, *served]) == list(range(chunks + 1)), "what is here does not come again"


async def _ignore(find: Callable[[TaskDocument], Awaitable[object]], document: TaskDocument) -> None:
    try:
        await find(document)
    except FlockError:
        await trio.sleep_forever()


@pytest.mark.parametrize(
    ("options", "words"),
    [({"max_bytes": 1_000}, "--max-base-bytes is 1000"), ({"quota": 1_000_000}, "disk quota.*--disk-quota GB")],
)
@in_trio(90)
async def test_a_base_that_is_too_large_for_this_peer_is_refused_before_a_byte_of_it_comes(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    folder = make_base(tmp_path / "base", rows=MIB_ROWS)
    async with people(tmp_path, **options) as (givers, joiner):
        give(givers, folder)
        with pytest.raises(Misuse, match=words):
            await joiner.find(make_document(folder))
        assert not joiner.service.bytes_received


@in_trio(90)
async def test_a_base_that_memory_cannot_hold_is_refused_before_its_weights_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_base(tmp_path / "base", rows=MIB_ROWS)
    monkeypatch.setattr(bases_module, "read_free_memory", lambda: 1_000_000)
    monkeypatch.setattr(bases_module, "read_free_gpus", list)
    async with people(tmp_path) as (givers, joiner):
        give(givers, folder)
        with pytest.raises(Unavailable, match="memory: training needs about"):
            await joiner.find(swap(make_document(folder), givers, "tokenizer.json", LARGE))
        assert 0 < joiner.service.bytes_received < CHUNK_BYTES // 8


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"auto_map": {"AutoModel": "evil.Model"}}, r"auto_map in config\.json"),
        ({"transformers_weights": "model.bin"}, "transformers_weights"),
        ({"quantization_config": {"bits": 4}}, "quantised already"),
        ({"architectures": ["ViTModel"]}, "no causal language model"),
    ],
)
@in_trio(90)
async def test_a_configuration_that_is_not_for_strangers_is_refused_before_anything_else_comes(
    tmp_path: Path, config: dict[str, Any], words: str
) -> None:
    document = make_document(make_base(tmp_path / "base", rows=MIB_ROWS))
    async with people(tmp_path) as (givers, joiner):
        folder = make_base(tmp_path / "hostile", rows=MIB_ROWS, config=config)
        give(givers, folder)
        hostile = swap(document, givers, "config.json", (folder / "config.json").read_bytes())
        hostile = swap(hostile, givers, "tokenizer.json", LARGE)
        with pytest.raises(InvalidContent, match=words):
            await joiner.find(hostile)
        assert joiner.service.bytes_received < CHUNK_BYTES // 8
        assert BASE_COMING not in joiner.store.owners() and task_owner(TASK) not in joiner.store.owners()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b'{"auto_map": {"AutoTokenizer": "x.Y"}}', r"auto_map in tokenizer_config\.json"),
        (b'{"vocab_file": "/home/somebody/.ssh/id_ed25519"}', r"vocab_file in tokenizer_config\.json leads out"),
        (b'{"fast_tokenizer_files": ["a.json", "../tokenizer.9.json"]}', "fast_tokenizer_files in .* leads out"),
    ],
)
@in_trio(90)
async def test_a_tokenizer_with_code_or_files_of_elsewhere_is_refused_before_its_words_come(
    tmp_path: Path, said: bytes, words: str
) -> None:
    folder = make_base(tmp_path / "base", rows=MIB_ROWS)
    async with people(tmp_path) as (givers, joiner):
        give(givers, folder)
        large = swap(make_document(folder), givers, "tokenizer.json", LARGE)
        with pytest.raises(InvalidContent, match=words):
            await joiner.find(swap(large, givers, "tokenizer_config.json", said))
        assert joiner.service.bytes_received < CHUNK_BYTES // 8


def test_what_old_releases_left_in_a_tokenizers_configuration_is_no_reason_to_refuse_it(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base")
    left = {"tokenizer_file": "/root/.cache/huggingface/x", "special_tokens_map_file": "/root/x", "vocab_file": "v.txt"}
    (folder / "tokenizer_config.json").write_text(json.dumps(left))
    check_base_folder(folder)
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    with pytest.raises(Misuse, match=r"tokenizer_file in tokenizer_config\.json leads out of the folder"):
        check_base_folder(folder)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "modeling_evil.py", "../../key", "/etc/passwd", "adapter_model.bin"]
)
@in_trio(30)
async def test_a_document_that_names_a_pickle_a_program_or_a_path_is_refused_before_anything_is_looked_for(
    tmp_path: Path, name: str
) -> None:
    """As a stranger writes it by hand: `task create` makes none."""
    value = decode(make_document(make_base(tmp_path / "base")).encode())
    value["base"]["files"] = sorted([*value["base"]["files"], [name, 100, b"\1" * 32]])
    store = BlobStore(tmp_path / "blobs")
    asked: list[object] = []

    async def find_base(task: int, document: TaskDocument) -> FoundBase:
        asked.append((task, document))
        raise AssertionError

    with pytest.raises(InvalidEncoding, match="no allowed name of a base file"):
        await open_library(
            TASK,
            store.put_object(encode(value)),
            bytes(32),
            bytes(32),
            store,
            None,
            find_base,
            asked.append,  # type: ignore[arg-type]
        )
    assert not asked and not (tmp_path / "bases").exists()


@in_trio(90)
async def test_a_manifest_that_names_fewer_bytes_than_there_are_gets_none_of_them(tmp_path: Path) -> None:
    """Endless data under a small number."""
    folder = make_base(tmp_path / "base", rows=2 * MIB_ROWS)
    document = make_document(folder)
    large = next(file for file in document.base_files if file.is_weights)
    async with people(tmp_path) as (givers, joiner):
        give(givers, folder)
        for size, words in ((1_000, r"file of \d+ bytes in chunks of \d+ not allowed"), (1 << 22, "not the 4194304")):
            lying = replace(document, base_files=with_file(document, replace(large, size=size)).files)
            before = joiner.service.bytes_received
            with pytest.raises(InvalidRemote, match=words):
                await joiner.find(lying)
            assert size > 1_000 or joiner.service.bytes_received - before < 10_000


@in_trio(90)
async def test_a_manifest_without_a_tokenizer_is_refused_before_anything_is_asked_for(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base")
    document = make_document(folder)
    bare = BaseManifest(tuple(file for file in document.base_files if not file.name.startswith("tokenizer")))
    async with people(tmp_path) as (givers, joiner):
        give(givers, folder)
        with pytest.raises(InvalidContent, match="no tokenizer"):
            await joiner.find(replace(document, base_files=bare.files))
        assert not joiner.service.bytes_received


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
@in_trio(90)
async def test_a_configuration_too_large_to_be_read_is_refused_before_a_byte_of_it_comes(
    tmp_path: Path, name: str
) -> None:
    folder = make_base(tmp_path / "base")
    async with people(tmp_path) as (givers, joiner):
        give(givers, folder)
        large = BaseFile(name, MAX_CONFIG_BYTES + 1, b"\1" * 32)
        document = make_document(folder)
        with pytest.raises(InvalidContent, match=f"{name} has 4194305 bytes, 4194304 are allowed"):
            await joiner.find(replace(document, base_files=with_file(document, large).files))
        assert not joiner.service.bytes_received


@in_trio(90)
async def test_a_file_that_the_disk_has_damaged_is_fetched_again(tmp_path: Path) -> None:
    folder = make_base(tmp_path / "base")
    document = make_document(folder)
    async with people(tmp_path) as (givers, joiner):
        give(givers, folder)
        path = (await joiner.find(document)).folder / "model.safetensors"
        path.write_bytes(encode_weights({"x.weight": (4, 4)}))
        check_files((await joiner.find(document)).folder, document.base)


@in_trio(90)
async def test_only_the_base_that_is_fetched_now_holds_room_beside_those_of_tasks(tmp_path: Path) -> None:
    """Or creators whose bases nobody can finish would fill the quota one by one."""
    first, second = make_base(tmp_path / "first", seed=1), make_base(tmp_path / "second", seed=2, config={"x": 1})
    async with people(tmp_path) as (givers, joiner):
        for folder in (first, second):
            for path in folder.iterdir():
                if not path.name.startswith("model"):
                    givers[0].store.put_file(path)
            with pytest.raises(Unavailable, match="no provider has it"):
                await joiner.find(make_document(folder))
        kept, base = joiner.store.kept_by(BASE_COMING), make_document(second).base
        assert kept == {file.digest for file in base.files if not file.is_weights}


def test_a_folder_of_links_into_a_store_that_lost_a_file_is_removed_at_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "bases" / "b1").mkdir(parents=True)
    (tmp_path / "bases" / "b1" / "config.json").symlink_to(tmp_path / "gone")
    (tmp_path / "bases" / "b2").mkdir()
    (tmp_path / "bases" / "b2" / "config.json").symlink_to(Path(__file__))
    store = BlobStore(tmp_path / "blobs")
    Bases(tmp_path / "bases", Contents(store, None), BaseTerms())  # type: ignore[arg-type]
    assert [path.name for path in (tmp_path / "bases").iterdir()] == ["b2"] and Path(__file__).exists()


def test_of_several_folders_the_one_that_holds_the_tasks_base_is_chosen(tmp_path: Path) -> None:
    right, wrong = make_base(tmp_path / "right"), make_base(tmp_path / "wrong", seed=2)
    assert choose_folder([tmp_path / "none", wrong, right], make_document(right)) == right
    with pytest.raises(InvalidContent, match="wrong model hash"):
        choose_folder([wrong, tmp_path / "none"], make_document(right))
