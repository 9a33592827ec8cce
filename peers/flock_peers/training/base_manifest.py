"""The manifest of a base model: each file of its folder by name, size and content id. Needs no torch, knows no network.

Canonical: names of a closed list, sorted, each once. The content id of its bytes is the base's own: two tasks that name
the same one train the same bytes. It stands whole in the task document, and by itself in the store of whoever has all
of it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flock_chain.codec import encode
from flock_chain.content import CHUNK_BYTES, MAX_FILE_BYTES, compute_chunk_list, object_digest
from flock_chain.errors import InvalidContent, InvalidEncoding, Misuse

BASE_FORMAT = 1
MAX_BASE_FILES = 256  # a 700B model has about 160 weight files
MAX_NAME_CHARACTERS = 128
MAX_BESIDE_BYTES = 256 << 20  # of all files that are no weights: the largest published tokenizers have about 40 MB
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")  # one of them is needed
INDEX = "model.safetensors.index.json"
CONFIGS = ("config.json", "tokenizer_config.json")  # small, and they tell most: looked at before anything else comes
MAX_CONFIG_BYTES = 4 << 20  # the largest published config.json has a few hundred kB
MAX_INDEX_BYTES = 64 << 20  # names of all weights of a sharded model
_PARSED = {INDEX: MAX_INDEX_BYTES} | dict.fromkeys(CONFIGS, MAX_CONFIG_BYTES)
_BESIDE = frozenset({
    "config.json", "generation_config.json", INDEX,
    *TOKENIZERS, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "merges.txt",
    "spiece.model", "sentencepiece.bpe.model", "chat_template.jinja", "chat_template.json",
})  # fmt: skip  # all that transformers reads of a folder; never pickle, never code
_WEIGHTS = re.compile(r"model(?:-(?P<number>\d{5})-of-(?P<count>\d{5,6}))?\.safetensors")


@dataclass(frozen=True)
class BaseFile:
    name: str
    size: int  # bytes
    digest: bytes  # of its chunk list

    @property
    def is_weights(self) -> bool:
        return _WEIGHTS.fullmatch(self.name) is not None


@dataclass(frozen=True)
class BaseManifest:
    files: tuple[BaseFile, ...]  # sorted by name

    def to_value(self) -> dict[str, Any]:
        return {"format": BASE_FORMAT, "files": [[file.name, file.size, file.digest] for file in self.files]}

    def encode(self) -> bytes:
        return encode(self.to_value())

    @property
    def digest(self) -> bytes:
        """The base's content id."""
        return object_digest(self.encode())

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def weight_bytes(self) -> int:
        return sum(file.size for file in self.files if file.is_weights)

    def check_complete(self) -> None:
        """Raises InvalidContent where a model cannot consist of these files, before any of them is fetched."""
        check_sizes({file.name: file.size for file in self.files})


def check_sizes(sizes: Mapping[str, int]) -> None:
    """`sizes`: bytes by name, as they are told before anything is read."""
    if "config.json" not in sizes:
        raise InvalidContent("base manifest: config.json is missing")
    if not set(sizes) & set(TOKENIZERS):
        raise InvalidContent(f"base manifest: no tokenizer ({', '.join(TOKENIZERS)})")
    beside = sum(size for name, size in sizes.items() if not _WEIGHTS.fullmatch(name))
    if beside > MAX_BESIDE_BYTES:
        raise InvalidContent(f"base manifest: {beside} bytes of files beside the weights, at most {MAX_BESIDE_BYTES}")
    for name, size in sizes.items():
        most = _PARSED.get(name, MAX_FILE_BYTES)
        if size > most:
            hint = "; save the weights in more parts (max_shard_size)" if _WEIGHTS.fullmatch(name) else ""
            raise InvalidContent(f"base manifest: {name} has {size} bytes, {most} are allowed{hint}")
    _check_weights(sorted(name for name in sizes if _WEIGHTS.fullmatch(name)), INDEX in sizes)


def _check_weights(names: list[str], has_index: bool) -> None:
    """One file, or all parts of a whole with their index."""
    if names == ["model.safetensors"]:
        return
    parts = [found for name in names if (found := _WEIGHTS.fullmatch(name)) and found["number"]]
    counts = {int(part["count"]) for part in parts}
    if not parts or len(parts) != len(names) or len(counts) != 1:
        raise InvalidContent("base manifest: weights are one model.safetensors, or parts of one whole")
    (count,) = counts
    if [int(part["number"]) for part in parts] != list(range(1, count + 1)):
        raise InvalidContent(f"base manifest: {len(parts)} of {count} parts of the weights")
    if not has_index:
        raise InvalidContent(f"base manifest: parts of weights without {INDEX}")


def parse_base(value: Any) -> BaseManifest:
    """Of a stranger, decoded; raises InvalidEncoding naming the check."""
    number = value.get("format") if isinstance(value, dict) else None
    if type(number) is not int or number != BASE_FORMAT:
        raise InvalidEncoding(f"base manifest: format {number!r:.20}, this release reads format {BASE_FORMAT}")
    if set(value) != {"format", "files"}:
        raise InvalidEncoding(f"base manifest: fields differ: {str(sorted(set(value) ^ {'format', 'files'}))[:80]}")
    rows = value["files"]
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_BASE_FILES:
        raise InvalidEncoding(f"base manifest: 1 to {MAX_BASE_FILES} base files")
    if not all(isinstance(row, list) and len(row) == 3 for row in rows):
        raise InvalidEncoding("base manifest: a base file is a name, a size and a content id")
    files = tuple(BaseFile(*row) for row in rows)
    for file in files:
        _check_file(file)
    names = [file.name for file in files]
    if names != sorted(set(names)):
        raise InvalidEncoding("base manifest: base files must be sorted and unique")
    return BaseManifest(files)


def _check_file(file: BaseFile) -> None:
    if not isinstance(file.name, str) or not is_base_name(file.name):
        raise InvalidEncoding(f"base manifest: {str(file.name)[:60]!r} is no allowed name of a base file")
    if not isinstance(file.size, int) or isinstance(file.size, bool) or not 0 < file.size < 1 << 53:
        raise InvalidEncoding(f"base manifest: size of {file.name} out of range")
    if not isinstance(file.digest, bytes) or len(file.digest) != 32:
        raise InvalidEncoding(f"base manifest: content id of {file.name} is not 32 bytes")


def is_base_name(name: str) -> bool:
    """Of the closed list, so that no name is a path, or a file that something else would run or unpickle."""
    return name in _BESIDE or _WEIGHTS.fullmatch(name) is not None


def list_base_files(folder: Path) -> Iterator[Path]:
    """The files that a base model consists of: configuration, tokenizer and safetensors, nothing executable."""
    if not (folder / "config.json").is_file():
        raise Misuse(f"base model {folder}: no config.json; name a transformers folder")
    for path in sorted(folder.iterdir()):
        if is_base_name(path.name) and path.is_file():
            yield path


def list_weights(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if _WEIGHTS.fullmatch(path.name) and path.is_file()]


def list_sizes(folder: Path) -> dict[str, int]:
    """Bytes by name; reads nothing."""
    return {path.name: path.stat().st_size for path in list_base_files(folder)}


def compute_base_file(path: Path, on_read: Callable[[int], None] | None = None) -> BaseFile:
    """Reads the file once, chunk by chunk. `on_read`: is told the bytes of each; what it raises ends it."""

    def read() -> bytes:
        data = file.read(CHUNK_BYTES)
        if on_read is not None:
            on_read(len(data))
        return data

    with path.open("rb") as file:
        chunks = compute_chunk_list(iter(read, b""))
    return BaseFile(path.name, chunks.size, chunks.digest)


def describe_base(folder: Path, on_read: Callable[[int], None] | None = None) -> BaseManifest:
    return BaseManifest(tuple(compute_base_file(path, on_read) for path in list_base_files(folder)))


def check_files(folder: Path, manifest: BaseManifest) -> None:
    """Raises InvalidContent naming the first file that is missing or differs. Sizes first: most differ there."""
    for wanted in manifest.files:
        path = folder / wanted.name
        if not path.is_file():
            raise InvalidContent(f"base model {folder}: {wanted.name} is missing; fetch the task's base model")
        if path.stat().st_size != wanted.size:
            raise InvalidContent(f"base model {folder}: {wanted.name} is not the task's file (wrong model hash)")
    for wanted in manifest.files:
        if compute_base_file(folder / wanted.name) != wanted:
            raise InvalidContent(f"base model {folder}: {wanted.name} is not the task's file (wrong model hash)")
