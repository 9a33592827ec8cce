"""What is meant in each phase of the task's first round, as calldata, by whose turn it is: what no program of random
calls comes to, since it opens a commitment, is checked against what it is of, is signed, or takes a seat.

Not among them is what takes another history: `attest_missing`, `rejoin`, `evict`, `unjail`, `reveal_vote`.
"""

from collections.abc import Iterator
from typing import Any

from board_support import CREATOR, NEW_ADAPTER, manifest_of, padded, salt_of
from calldata_support import FOUNDERS, WORD, Call
from calldata_ways_support import CANDIDATE, LATER, PEOPLE, SUBMITTER
from calldata_worlds_support import ACCUSING, SCORES, worlds
from contracts_support import (
    ADOPT,
    AUDIT,
    AVAILABILITY,
    CHAIN_ID,
    COMMIT,
    DRAW_PROPOSERS,
    ENDED,
    ETHER,
    PARAMETERS,
    REVEAL,
    SCORE_COMMIT,
    SCORE_REVEAL,
    TALLY,
    TERMS,
    WAITING,
)
from stake_support import FOUNDERS as KEYS
from stake_support import make_statements

from flock_chain.proposal import compute_proposal_commitment, compute_score_commitment
from flock_chain.tally import compute_tally
from flock_contracts.addresses import BOARD
from flock_contracts.loader import load

IDS = (CHAIN_ID, BOARD, 1, 1)  # task and round
SHEET = padded(SCORES), padded(ACCUSING)
EXACT = (REVEAL, SCORE_REVEAL, TALLY, ENDED)  # their calls are accepted by no other words


def call(sender: bytes, contract: str, function: str, *args: Any) -> Call:
    return sender, contract, load(contract).encode(function, *args), 0


def turn(phase: int) -> list[Call]:
    """One call of everybody who is awaited."""
    world = worlds()[phase][0]
    view = world.board("round_view", 1)
    calls = [call(who, "TaskBoard", *words) for who in view["proposers"] for words in _of_a_proposer(phase, who)]
    calls += [call(who, "TaskBoard", *words) for who in view["voters"] for words in _of_a_voter(phase, who)]
    if phase == WAITING:
        numbers = PARAMETERS | {"task_fee": 7}
        calls = [call(who, "TaskBoard", "approve_rules", numbers) for who in FOUNDERS]
    elif phase == DRAW_PROPOSERS:
        calls = [call(who, "Stake", "admit", CANDIDATE, 40 * ETHER) for who in FOUNDERS]
    elif phase == TALLY:
        limits = TERMS["loss_limit"], TERMS["mad_multiple"]
        tally = compute_tally([SHEET[0]] * 3, [SHEET[1]] * 3, 0b111, *limits)
        calls = [call(CREATOR, "TaskBoard", "tally", 1, 1, padded(tally.medians[:16]), tally.center, tally.mad)]
    elif phase == ADOPT:  # the accused is convicted by the third of six, of whom two have delegators
        calls += [call(who, "TaskBoard", "confirm", 1, 1, 1, 0) for who in PEOPLE]
    elif phase == AUDIT:
        calls = [call(who, "TaskBoard", "attest_guilty", 1, 1, sorted({*PEOPLE} - {who})[:2]) for who in PEOPLE]
        calls += [call(CREATOR, "TaskBoard", "stop_task", 1)]
    elif phase == ENDED:
        height, epoch = world.height, world.view("Stake", "epoch")
        calls = [call(SUBMITTER, "Stake", "report", *make_statements(KEYS[0], height), epoch)]
    return calls


def _of_a_proposer(phase: int, who: bytes) -> Iterator[tuple[Any, ...]]:
    if phase == COMMIT:
        commitment = compute_proposal_commitment(*IDS, who, manifest_of(who, 1), salt_of(who, 1))
        yield "commit", 1, 1, commitment
    elif phase == REVEAL:
        yield "reveal", 1, 1, manifest_of(who, 1), salt_of(who, 1)


def _of_a_voter(phase: int, who: bytes) -> Iterator[tuple[Any, ...]]:
    if phase == AVAILABILITY:
        yield "attest_available", 1, 1, 0b110, 0b001
    elif phase == SCORE_COMMIT:
        yield "commit_scores", 1, 1, compute_score_commitment(*IDS, who, *SHEET, salt_of(who, 1))
    elif phase == SCORE_REVEAL:
        yield "reveal_scores", 1, 1, *SHEET, salt_of(who, 1)
    elif phase == ADOPT:
        yield "attest_adoption", 1, 1, NEW_ADAPTER


def spoilt(data: bytes) -> Iterator[bytes]:
    """Without its end, and with each of its words another."""
    yield from (data[:-1], data[:-WORD], data[:4])
    for at in range(4, len(data), WORD):
        word = int.from_bytes(data[at : at + WORD], "big")
        for other in sorted({0, 1, 2**256 - 1, word ^ 1, word ^ 2**255} - {word}):
            yield data[:at] + other.to_bytes(WORD, "big") + data[at + WORD :]


def turn_of_any_bytes(phase: int) -> list[Call | int]:
    """Each call is spoilt in every way before it comes, unless one of those has taken its place; then the phase ends,
    by somebody's poke, and what takes a delay comes."""
    rows: list[Call | int] = []
    for sender, name, data, value in turn(phase):
        rows += [(sender, name, wrong, value) for wrong in spoilt(data)]
        rows += [(sender, name, data, value)]
    poke = call(SUBMITTER, "TaskBoard", "poke", 1)
    return [*rows, poke, 30, poke, LATER, call(SUBMITTER, "TaskBoard", "enact_rules")]
