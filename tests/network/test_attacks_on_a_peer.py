"""A whole peer in a process of its own, attacked in every layer: it survives, serves the others, stays within its
memory and names the attacker. The same attacks at full length: python benchmarks/attacks.py."""

from collections.abc import Iterator
from pathlib import Path

import attacks_handshake_support
import attacks_muxer_support
import attacks_protocols_support
import pytest
import trio
from attack_support import BLAMES, Attack, Victim, carry_out, run_victim

LAYERS = {
    "handshake": attacks_handshake_support.ATTACKS,
    "muxer": attacks_muxer_support.ATTACKS,
    "protocols": attacks_protocols_support.ATTACKS,
}
ATTACKS = [attack for layer in LAYERS.values() for attack in layer.values() if attack.in_tests]


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    folder: Path = tmp_path_factory.mktemp("victim")
    with run_victim(folder / "home") as running:
        yield running


@pytest.mark.process
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_peer_survives_and_names_who_attacks_it(victim: Victim, attack: Attack) -> None:
    trio.run(carry_out, victim, attack, 1)


def test_each_attack_has_somebody_to_blame_or_a_reason_why_there_is_nobody() -> None:
    nameless = [attack for layer in LAYERS.values() for attack in layer.values() if attack.blame not in BLAMES]
    assert [attack.name for attack in nameless] == ["control_socket"]
    assert all(attack.blame.startswith("nobody: ") for attack in nameless)


def test_each_attack_stands_in_the_table_of_what_a_network_must_withstand() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reliability" / "network.md").read_text()
    for layer, attacks in LAYERS.items():
        for name in attacks:
            full = f"muxer_{name}" if layer == "muxer" else name
            assert text.count(f"`{full}`") >= 2, full  # what it does, and what it is the test of
