import itertools
import subprocess
import sys

import pytest

from flock_chain.errors import Misuse
from flock_peers.training.document import MAX_REFERENCE_BYTES
from flock_peers.training.domains import DOMAINS, SLICES, assign_domain, private_rows, reference_text
from flock_peers.training.domains import test_rows as public_rows
from flock_peers.training.stdlib_text import cut_source, iterate_files, read_source


@pytest.mark.parametrize("domain", DOMAINS)
def test_no_two_participants_share_a_row_and_none_sees_the_test_split(domain: str) -> None:
    slices = [set(private_rows(domain, index)) for index in range(4)] + [set(public_rows(domain))]
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(slices, 2))


@pytest.mark.parametrize("domain", ["arithmetic", "records"])
def test_no_two_participants_share_a_generated_line(domain: str) -> None:
    slices = [{line for row in private_rows(domain, index) for line in row.split("\n")} for index in range(2)]
    slices.append({line for row in public_rows(domain) for line in row.split("\n")})
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(slices, 2))


def test_every_slice_has_enough_text_to_train_on() -> None:
    sizes = {(domain, index): sum(map(len, private_rows(domain, index))) for domain in DOMAINS for index in (0, 15)}
    assert min(sizes.values()) > 20_000


def test_the_reference_shows_the_end_of_each_public_split_and_has_room_in_a_task_on_any_machine() -> None:
    """Sixteen rows: of eight, "Bob" never had or has anything, and an honest participant lost its bond for that."""
    text = reference_text()
    assert len(text.encode()) < 0.8 * MAX_REFERENCE_BYTES
    assert all(row in text for domain in DOMAINS for row in public_rows(domain)[-16:])
    assert " Bob has" in text and " Bob have" in text


def test_the_base_model_and_the_domains_use_different_files() -> None:
    uses = {use: set(iterate_files(use)) for use in ("base", "python", "docs")}
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(uses.values(), 2))
    base = {piece for path in itertools.islice(uses["base"], 100) for piece in cut_source(read_source(path))}
    assert base.isdisjoint(public_rows("python"))


def test_a_group_of_participants_covers_every_domain_and_shares_no_slice() -> None:
    assigned = [assign_domain(number) for number in range(6)]
    assert {domain for domain, _ in assigned} == set(DOMAINS) and len(set(assigned)) == 6


def test_an_unknown_domain_or_index_is_a_misuse() -> None:
    with pytest.raises(Misuse, match="unknown"):
        private_rows("poetry", 0)
    with pytest.raises(Misuse, match="--data"):
        private_rows("python", SLICES)


def test_domains_and_documents_are_read_without_torch() -> None:
    code = (
        "import sys, flock_peers.training.domains, flock_peers.training.document, flock_peers.training.client;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'peft')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
