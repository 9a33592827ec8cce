"""Upgrade schedules: one document, one hash; what holds in which epoch; what may still be changed."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flock_chain.errors import InvalidEncoding, Refused
from flock_chain.parameters import DEMO
from flock_chain.upgrades import CHANGEABLE, KNOWN_RULES, Schedule, Step, decode_schedule

HASH = bytes(range(32))
NEXT = max(KNOWN_RULES) + 1
SCHEDULE = Schedule(
    HASH, (Step(5, 1, (("block_gas_limit", 20_000_000),)), Step(8, 1, (("block_interval", 500),)), Step(12, NEXT))
)


def decode(data: bytes) -> Schedule:
    return decode_schedule(data, genesis_hash=HASH, genesis=DEMO)


def changed(**values: object) -> bytes:
    return json.dumps({**json.loads(SCHEDULE.encode()), **values}, sort_keys=True, separators=(",", ":")).encode()


def test_a_schedule_round_trips_and_an_empty_one_has_a_hash_too() -> None:
    assert decode(SCHEDULE.encode()) == SCHEDULE
    assert decode(Schedule(HASH).encode()).hash != SCHEDULE.hash


def test_a_step_holds_from_its_epoch_on_and_its_changes_stay() -> None:
    assert SCHEDULE.parameters_at(DEMO, 4) == DEMO
    fifth = replace(DEMO, block_gas_limit=20_000_000)
    assert SCHEDULE.parameters_at(DEMO, 5) == SCHEDULE.parameters_at(DEMO, 7) == fifth
    assert SCHEDULE.parameters_at(DEMO, 8) == SCHEDULE.parameters_at(DEMO, 11) == replace(fifth, block_interval=500)


def test_a_release_stops_before_rules_that_it_does_not_contain_and_names_them() -> None:
    assert SCHEDULE.find_unknown() == Step(12, NEXT)
    with pytest.raises(Refused, match=rf"from epoch 12 on .* rules version {NEXT}, this release knows 1"):
        SCHEDULE.parameters_at(DEMO, 12)
    with pytest.raises(Refused, match=f"from epoch 0 on .* rules version {NEXT}"):
        Schedule(HASH).parameters_at(replace(DEMO, rules=NEXT), 3)


@given(st.integers(0, 20))
def test_nothing_that_holds_in_an_executed_epoch_can_be_changed(epoch: int) -> None:
    for index, step in enumerate(SCHEDULE.steps):
        without = replace(SCHEDULE, steps=SCHEDULE.steps[:index] + SCHEDULE.steps[index + 1 :])
        for one, other in ((without, SCHEDULE), (SCHEDULE, without)):
            if step.epoch <= epoch:
                with pytest.raises(Refused, match=f"up to epoch {epoch}, .*epoch {epoch + 1} at the earliest"):
                    one.check_replaces(other, epoch)
            else:
                one.check_replaces(other, epoch)
    SCHEDULE.check_replaces(SCHEDULE, epoch)


STEP = {"epoch": 3, "rules": 1, "changes": {}}


@pytest.mark.parametrize(
    ("data", "check"),
    [
        (changed(format=2), "format 2, this release reads 1"),
        (changed(format=True), "format True"),
        (changed(extra=1), "must name"),
        (changed(genesis="00" * 32), "for genesis"),
        (changed(steps={}), "list of at most"),
        (changed(steps=[STEP] * 257), "list of at most"),
        (changed(steps=[[]]), "names epoch, rules and changes"),
        (changed(steps=[{**STEP, "epoch": 0}]), "epoch 0"),
        (changed(steps=[{**STEP, "epoch": True}]), "epoch True"),
        (changed(steps=[{**STEP, "rules": 1 << 53}]), "rules"),
        (changed(steps=[{**STEP, "rules": 1 << 40}]), "rules"),
        (changed(steps=[{**STEP, "changes": []}]), "may change"),
        (changed(steps=[{**STEP, "changes": {"base_fee": 2}}]), "may change"),
        (changed(steps=[{**STEP, "changes": {"block_gas_limit": 1}}]), "not between"),
        (changed(steps=[{**STEP, "changes": {"block_gas_limit": "30000000"}}]), "not between"),
        (changed(steps=[STEP, STEP]), "ascend"),
        (changed(steps=[{**STEP, "rules": 2}, {**STEP, "epoch": 4}]), "ascend"),
        (SCHEDULE.encode() + b" ", "canonical"),
        (b"{", "not JSON"),
        (b"[" * 9, "not JSON"),
        (b"[]", "must name"),
        (b" " * (65 << 10), "larger"),
    ],
)
def test_anything_else_is_refused_by_the_name_of_the_check(data: bytes, check: str) -> None:
    with pytest.raises(InvalidEncoding, match=check):
        decode(data)


def test_rules_never_go_back_behind_those_of_genesis() -> None:
    with pytest.raises(InvalidEncoding, match="before those of genesis"):
        decode_schedule(SCHEDULE.encode(), genesis_hash=HASH, genesis=replace(DEMO, rules=2))


def test_only_numbers_that_no_contract_knows_can_be_changed() -> None:
    """The board's terms are fixed when it is initialised: a running round is never touched."""
    from flock_contracts.loader import load_all

    told = {
        argument["name"].strip("_")
        for contract in load_all().values()
        for entry in contract.abi
        if entry.get("name") == "initialize"
        for argument in entry["inputs"]
    }
    assert "phase_min_blocks" in told and not told & set(CHANGEABLE)
