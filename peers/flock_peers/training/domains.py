"""The built-in domains: text from any machine, cut into disjoint private slices and one public test split each.

A piece of text belongs to one of CLASSES classes by its own hash: the first SLICES are the participants' slices, the
rest is the test split. So no two participants share a piece, none sees a test piece, and the base model was built from
other files (stdlib_text.py). Needs no torch.
"""

from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from random import Random

from flock_chain.errors import Misuse, Unavailable
from flock_peers.plural import plural
from flock_peers.training.generated_text import GENERATORS
from flock_peers.training.stdlib_text import cut_pieces, cut_source, docstrings, iterate_files, read_source

DOMAINS = ("records", "arithmetic", "docs", "python", "logs")
SLICES = 16  # participants of one domain, at most: a slice of the smallest domain still has 25 kB
TEST_CLASSES = 4
CLASSES = SLICES + TEST_CLASSES
MIN_ROWS = 8  # fewer cannot be split into training and hold-out
REFERENCE_ROWS = 16  # of a domain's test split: what a task's creator would show of it
GENERATED_ROWS = 60  # private rows of a generated domain
GENERATED_TEST_ROWS = 48
LINES_PER_ROW = 8  # lines of a generated row


def assign_domain(number: int) -> tuple[str, int]:
    """Domain and index of the number-th of a group of participants: all domains in turn, never the same rows twice."""
    return DOMAINS[number % len(DOMAINS)], number // len(DOMAINS)


def class_of(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:4], "big") % CLASSES


def check_domain(domain: str, index: int) -> None:
    """Raises Misuse for an unknown domain or index."""
    if domain not in DOMAINS:
        raise Misuse(f"domain {domain!r} is unknown; there are {', '.join(DOMAINS)}")
    if not 0 <= index < SLICES:
        raise Misuse(
            f"domain {domain}: participant index {index} is not between 0 and {SLICES - 1}; use --data instead"
        )


def private_rows(domain: str, index: int) -> list[str]:
    """The private rows of participant `index` of a domain; raises Misuse as `check_domain` does."""
    check_domain(domain, index)
    return _checked(domain, list(_rows(domain, index)))


def test_rows(domain: str) -> list[str]:
    """The public test split of a domain."""
    return _checked(domain, list(_rows(domain, None)))


def reference_text() -> str:
    """A little public text of every domain, the end of its test split: no participant's."""
    return "\n\n".join(text for domain in DOMAINS for text in test_rows(domain)[-REFERENCE_ROWS:])


def _checked(domain: str, rows: list[str]) -> list[str]:
    if len(rows) < MIN_ROWS:
        raise Unavailable(
            f"domain {domain}: {plural(len(rows), 'row')} on this machine, {MIN_ROWS} needed; use --data instead"
        )
    return rows


def _rows(domain: str, index: int | None) -> Iterator[str]:
    if domain in GENERATORS:
        return _generated_rows(domain, index)
    if domain not in DOMAINS:
        raise Misuse(f"domain {domain!r} is unknown; there are {', '.join(DOMAINS)}")
    return (piece for piece in _pieces(domain) if _belongs(piece, index))


def _belongs(piece: str, index: int | None) -> bool:
    found = class_of(piece)
    return found >= SLICES if index is None else found == index


@lru_cache(maxsize=2)
def _pieces(domain: str) -> tuple[str, ...]:
    """Every distinct piece of a text domain, in a fixed order."""
    pieces = _python_pieces() if domain == "python" else _docs_pieces()
    return tuple(dict.fromkeys(pieces))


def _python_pieces() -> Iterator[str]:
    for path in iterate_files("python"):
        yield from cut_source(read_source(path))


def _docs_pieces() -> Iterator[str]:
    from pydoc_data.topics import topics  # type: ignore[import-untyped,unused-ignore]

    paragraphs = dict.fromkeys(part.strip("\n") for topic in topics.values() for part in topic.split("\n\n"))
    yield from cut_pieces("\n\n".join(paragraphs))
    for path in iterate_files("docs"):
        for docstring in docstrings(read_source(path)):
            yield from cut_pieces(docstring)


def _generated_rows(domain: str, index: int | None) -> Iterator[str]:
    """Lines drawn until enough of them fall into the wanted class. The same on every machine."""
    chance = Random(f"flock {domain} {'test' if index is None else index}")
    wanted = GENERATED_TEST_ROWS if index is None else GENERATED_ROWS
    for _ in range(wanted):
        lines: list[str] = []
        while len(lines) < LINES_PER_ROW:
            line = GENERATORS[domain](chance)
            if _belongs(line, index):
                lines.append(line)
        yield "\n".join(lines)
