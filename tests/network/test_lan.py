"""Two machines with addresses of their own: they find each other, live with a bad network, and come back to each other.

Each machine is a network namespace; between them a switch in user space loses and delays Ethernet frames.
"""

import json
import time
from pathlib import Path

import pytest
from lan_support import LanPeer, open_lan, running, spoofing
from network_support import key

ONE, TWO = key(1).account.hex(), key(2).account.hex()


def test_two_machines_of_a_lan_connect_without_configuration_whatever_a_third_one_says(tmp_path: Path) -> None:
    """It answers for them, names machines elsewhere, sends nonsense: as fast as it can, and before they are there."""
    with open_lan(3) as (machines, switch), spoofing(machines[2]) as spoofer:
        assert spoofer.stdin is not None and spoofer.stdout is not None
        spoofer.stdin.write("\n")
        spoofer.stdin.flush()
        while switch.seen < 2_000:
            time.sleep(0.01)
        one, two = (LanPeer(machine, number, tmp_path) for number, machine in enumerate(machines[:2], 1))
        with running(one, two):
            one.wait_for("connected", TWO)
            two.wait_for("connected", ONE)
            assert spoofer.stdout.readline() == "dialed\n"  # it is heard
            before = switch.seen
            while switch.seen < before + 2_000:
                time.sleep(0.01)
            one.tell(to=TWO, count=50, bytes=1_000)
            two.wait_for("received", 50)
            assert not any("disconnected" in row for row in (*one.log, *two.log))
    saved = json.loads((tmp_path / "peers-1.json").read_text())
    assert [text.split("/tcp/")[0] for text in saved["addresses"]] == ["/ip4/10.77.0.2"]


def test_with_two_per_cent_loss_and_80_ms_delay_they_find_each_other_and_every_message_arrives(tmp_path: Path) -> None:
    """80 ms for each frame, in both directions: 160 ms there and back."""
    with open_lan(2, loss=0.02, delay=0.080) as (machines, switch):
        one, two = (LanPeer(machine, number, tmp_path) for number, machine in enumerate(machines, 1))
        with running(one, two):
            one.wait_for("connected", TWO)
            two.wait_for("connected", ONE)
            one.tell(to=TWO, count=150, bytes=4_000)
            two.tell(to=ONE, count=150, bytes=4_000)
            one.wait_for("received", 150)
            two.wait_for("received", 150)
        assert switch.lost > 0.01 * switch.seen > 10


@pytest.mark.slow
def test_a_peer_behind_a_restarted_router_comes_back_with_another_address(tmp_path: Path) -> None:
    """Its cable carries nothing for a while, without a word to the kernels; then it has another address."""
    limits = {"silent_seconds": 4.0, "redial_seconds_max": 2.0}
    with open_lan(2) as (machines, switch):
        one = LanPeer(machines[0], 1, tmp_path, mdns=False, limits=limits)
        address = one.wait_for("address")
        assert address.startswith("/ip4/10.77.0.1/tcp/")
        two = LanPeer(machines[1], 2, tmp_path, mdns=False, limits=limits, bootstrap=[address])
        with running(one, two):
            one.wait_for("connected", TWO)
            two.wait_for("connected", ONE)
            one.tell(to=TWO, count=50, bytes=1_000)  # bytes under way, when the cable goes
            switch.unplugged.add(1)
            one.tell(to=TWO, count=50, bytes=1_000)
            one.wait_for("disconnected", TWO)
            two.wait_for("disconnected", ONE)
            machines[1].move_to("10.77.0.9")
            switch.unplugged.clear()
            one.wait_for("connected", TWO)
