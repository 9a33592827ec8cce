"""A participant at its desk in an audit: rounds that were played before it, and what it looks at and says."""

from dataclasses import replace

import trio
from roles_support import PROPOSERS, Desk, Offer, do

from flock_peers.roles.board import Phase, RoundView, read_seed

ANN, BOB, EVE = PROPOSERS


def play(desk: Desk, rounds: int = 2) -> list[list[Offer]]:
    """All three proposed in every round, and all were accepted."""
    desk.board.terms["audit_rounds"] = 1
    played = []
    for number in range(1, rounds + 1):
        offers = [desk.offer(seat, number=number) for seat in range(3)]
        desk.settle(number, offers)
        played.append(offers)
    return played


def audit(desk: Desk, number: int = 2) -> RoundView:
    return desk.view(Phase.AUDIT, [], round=number, seed_height=number)


def said(desk: Desk) -> list[tuple[int, list[bytes]]]:
    """Number of the audit and who was named."""
    return [(call[2], call[3]) for call in desk.sender.calls if call[0] == "attest_guilty"]


async def kept_seeds(desk: Desk, number: int, kind: str, view: RoundView, purpose: bytes) -> tuple[int, int]:
    """From the record on disk: with what the same would be measured again."""
    record = desk.secrets.load(1, number, kind)
    assert record is not None
    at = replace(view, seed_height=record["seed_height"])
    return await read_seed(desk.board, at, purpose), record["own_seed"]


def file_name(desk: Desk, offer: Offer) -> str:
    path = desk.store.file_path(offer.delta_digest)
    assert path is not None
    return path.name


async def fetch(desk: Desk) -> None:
    """As the keeper does: what was accepted is here before an audit begins."""
    for number in range(1, 4):
        for _ in range(3):
            await desk.keeper.step(number, True)
            await trio.sleep(3)


def values_of_last(desk: Desk) -> dict[str, int]:
    return dict(desk.measurements.of(1)["audits"][-1]["values"])


async def audited(desk: Desk, count: int, number: int = 2, first: int = 1) -> None:
    desk.board.audit += 1
    desk.board.audit_first = first
    desk.trainer.audited.clear()
    await do(desk.auditor.step, audit(desk, number), 60)
    assert sum(len(names) for names, _, _ in desk.trainer.audited) == count
    assert said(desk)[-1] == (desk.board.audit, [])
