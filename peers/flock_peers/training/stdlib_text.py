"""Text of this machine's Python standard library, cut into pieces. Says which file serves the base and which a domain.

The three lists are disjoint: what the base model was trained on is in no domain, and a domain's file is in no other's.
"""

import ast
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

MAX_PIECE_CHARS = 1_200  # a long definition becomes several pieces
MIN_PIECE_CHARS = 60  # shorter pieces (an import line, a lone constant) carry nothing to learn
MAX_SOURCE_BYTES = 400_000  # the standard library's largest source file has 230 kB

# Packages and modules whose source is the "python" domain.
PYTHON_FILES = ("asyncio", "concurrent", "email", "http", "json", "logging", "multiprocessing", "urllib", "xml")
# Modules whose docstrings, with pydoc_data.topics, are the "docs" domain. Their code is used by nobody.
DOCS_FILES = (
    "_pydecimal.py", "argparse.py", "bisect.py", "calendar.py", "cmd.py", "collections", "configparser.py", "csv.py",
    "ctypes", "datetime.py", "_pydatetime.py", "difflib.py", "doctest.py", "fractions.py", "ftplib.py", "functools.py",
    "gettext.py", "heapq.py", "imaplib.py", "inspect.py", "ipaddress.py", "mailbox.py", "operator.py", "optparse.py",
    "pickletools.py", "poplib.py", "pydoc_data", "random.py", "shutil.py", "smtplib.py", "statistics.py",
    "subprocess.py", "tarfile.py", "telnetlib.py", "textwrap.py", "threading.py", "tkinter", "turtle.py", "typing.py",
    "xmlrpc", "zipfile.py", "zoneinfo",
)  # fmt: skip
# Neither base nor domain: tests, tables and what was never meant to be read.
SKIPPED_FILES = (
    "__phello__", "_compat_pickle.py", "encodings", "ensurepip", "opcode.py", "site-packages", "dist-packages",
    "stringprep.py", "test", "this.py", "turtledemo",
)  # fmt: skip
_SKIPPED_PARTS = {"test", "tests", "idle_test", "__pycache__", "site-packages", "dist-packages"}
_SKIPPED_PREFIXES = ("_sysconfigdata", "config-")


def stdlib_folder() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def iterate_files(use: str) -> Iterator[Path]:
    """Source files for "python", "docs" or "base", in a fixed order."""
    root = stdlib_folder()
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if not _SKIPPED_PARTS.intersection(parts) and _use_of(parts[0]) == use:
            yield path


def _use_of(top: str) -> str:
    if top in PYTHON_FILES:
        return "python"
    if top in DOCS_FILES:
        return "docs"
    return "none" if top in SKIPPED_FILES or top.startswith(_SKIPPED_PREFIXES) else "base"


def read_source(path: Path) -> str:
    """The text, or nothing where the file is too large or not UTF-8."""
    data = path.read_bytes()
    if len(data) > MAX_SOURCE_BYTES:
        return ""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return ""


def cut_pieces(text: str, separator: str = "\n\n") -> Iterator[str]:
    """Paragraphs glued together up to MAX_PIECE_CHARS; a longer paragraph is cut at line ends."""
    piece = ""
    for paragraph in text.split(separator):
        if piece and len(piece) + len(paragraph) + len(separator) > MAX_PIECE_CHARS:
            yield from _split_long(piece)
            piece = paragraph
        else:
            piece = f"{piece}{separator}{paragraph}" if piece else paragraph
    yield from _split_long(piece)


def _split_long(piece: str) -> Iterator[str]:
    lines: list[str] = []
    size = 0
    for line in piece.strip("\n").split("\n"):
        if lines and size + len(line) > MAX_PIECE_CHARS:
            yield "\n".join(lines)
            lines, size = [], 0
        lines.append(line[:MAX_PIECE_CHARS])
        size += len(line) + 1
    if size >= MIN_PIECE_CHARS:
        yield "\n".join(lines)


def cut_source(text: str) -> Iterator[str]:
    """Top-level definitions of a source file, as pieces."""
    for block in re.split(r"\n(?=(?:class|def|async def|@)\s?\S)", text):
        yield from cut_pieces(block)


def docstrings(text: str) -> Iterator[str]:
    """Every docstring of a source file, without its indentation."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found = ast.get_docstring(node)
            if found:
                yield found
