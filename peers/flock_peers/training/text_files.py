"""Files of private data, found and read within bounds: lines of JSONL, pieces of plain text. Knows no rows."""

import os
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from pathlib import Path

from flock_chain.errors import Misuse

MAX_LINE_BYTES = 1 << 20  # a row longer than this fits no context
MAX_TEXT_BYTES = 64 << 20  # of one plain text file: it is decoded whole; longer ones are meant as JSONL
MAX_FILES = 100_000  # of a folder
MAX_FOLDER_DEPTH = 32  # further down nobody put data by hand
PIECE_CHARS = 2_000  # of a piece of plain text, about: paragraphs are kept together up to this
DATA_SUFFIXES = (".jsonl", ".txt", ".md", ".rst")

Refuse = Callable[[str, object], None]  # where, why


def list_files(path: Path, refuse: Refuse) -> Iterator[Path]:
    """The path itself, or the data files below it in the order of their names; links are not followed."""
    if not path.is_dir():
        yield path
        return
    count = 0
    for folder, folders, names in os.walk(path, onerror=lambda error: refuse(str(error.filename), error.strerror)):
        here = Path(folder)
        deep = len(here.relative_to(path).parts) >= MAX_FOLDER_DEPTH
        folders[:] = [] if deep else sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            file = here / name
            where = str(file.relative_to(path))
            if not name.lower().endswith(DATA_SUFFIXES):
                refuse(where, f"not one of {', '.join(DATA_SUFFIXES)}")
            elif file.is_symlink() or not file.is_file():
                refuse(where, "a link or no plain file")
            elif count == MAX_FILES:
                refuse(where, f"and all after it: at most {MAX_FILES} files of a folder are read")
                return
            else:
                count += 1
                yield file


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank with their numbers, each cut one byte past the limit so that the parser refuses it."""
    number = 0
    try:
        with path.open("rb") as file:
            if file.peek(len(BOM_UTF8)).startswith(BOM_UTF8):  # some editors write it, and no JSON may begin with it
                file.read(len(BOM_UTF8))
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                while not line.endswith(b"\n") and (more := file.readline(MAX_LINE_BYTES)):
                    line = line[:MAX_LINE_BYTES] + b"x" + (b"\n" if more.endswith(b"\n") else b"")
                if line.strip():
                    yield number, line
    except OSError as error:
        raise Misuse(f"data {path}: cannot be read ({error.strerror}); name an existing file or folder") from error


def read_text(path: Path, where: str, refuse: Refuse) -> Iterator[str]:
    """Pieces of a few paragraphs each. A file that is no text is refused whole."""
    where = where.removesuffix(", ")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise Misuse(f"data {path}: cannot be read ({error.strerror})") from error
    if len(data) > MAX_TEXT_BYTES:
        refuse(where, f"longer than {MAX_TEXT_BYTES} bytes; cut it, or give JSONL")
        return
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        refuse(where, f"not UTF-8 at byte {error.start}")
        return
    if "\0" in text:
        refuse(where, "holds zero bytes, so it is no text")
        return
    pieces = list(cut_text(text))
    if not pieces:
        refuse(where, "is empty")
    yield from pieces


def cut_text(text: str) -> Iterator[str]:
    """Paragraphs glued together; one that is longer than a piece is cut at spaces. Nothing but blank ends is lost."""
    piece = ""
    for paragraph in text.split("\n\n"):
        if piece and len(piece) + len(paragraph) > PIECE_CHARS:
            yield from _cut_long(piece)
            piece = ""
        piece = f"{piece}\n\n{paragraph}" if piece else paragraph
    yield from _cut_long(piece)


def _cut_long(piece: str) -> Iterator[str]:
    piece = piece.strip("\n")
    while len(piece) > PIECE_CHARS:
        end = max(piece.rfind(" ", 1, PIECE_CHARS), piece.rfind("\n", 1, PIECE_CHARS))
        end = end if end > 0 else PIECE_CHARS
        yield piece[:end]
        piece = piece[end:]
    if piece.strip():
        yield piece
