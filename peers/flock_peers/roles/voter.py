"""The voter's part of a round: hold, score, tally, adopt. Measures on its own hold-out; decides no verdict.

The board is the only memory of what was done; what was committed to is on disk before it leaves.
"""

import logging
import secrets as chance
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import trio

from flock_chain.aggregation import compute_gram, filter_bits
from flock_chain.audit_rule import Finding, find, summarise
from flock_chain.errors import FlockError, InvalidRemote
from flock_chain.paper_rule import ABSTAIN, is_acceptable_loss
from flock_chain.proposal import SALT_BYTES, compute_score_commitment
from flock_chain.suspicion import MIN_PROPOSALS, choose_compared, compute_cosines, find_suspects
from flock_chain.tally import (
    FILTER_NEAR_DUPLICATE,
    FILTER_NO_SCORE,
    NORM_BITS,
    SCORE_LIMIT,
    SEATS_MAX,
    Tally,
    compute_tally,
)
from flock_contracts.addresses import BOARD
from flock_peers.measurements import Measurements
from flock_peers.roles.auditor import OWN_SEED_BYTES
from flock_peers.roles.board import Phase, RoundView, Views, bits, read_seed
from flock_peers.roles.candidate import CandidateScale, foresee_accepted
from flock_peers.roles.earlier import EarlierDeltas
from flock_peers.roles.jobs import Jobs
from flock_peers.roles.library import Library, Proposal
from flock_peers.roles.paper_voter import PaperVoter, is_paper
from flock_peers.roles.proposer import Identity
from flock_peers.roles.removal import Removal
from flock_peers.roles.secrets import RoundSecrets
from flock_peers.roles.sender import CALL_GAS, Sender

log = logging.getLogger(__name__)

AVAILABILITY_SECONDS = 8.0  # at least, for what is not here yet; its sender has served others by then
AVAILABILITY_SHARE = 1 / 3  # of the phase: a task with large adapters has long phases, and a voter attests once only
SCORE_FETCH_SECONDS = 12.0  # at least, for all proposals together
SCORE_FETCH_SHARE = 1 / 5  # of the phase: scoring must still fit into it
JUDGE_SHARE = 1 / 2  # of the phase: so long a proposal that the candidate consists of, and is not here, is waited for
JUDGE_RETRY_SECONDS = 3.0
TALLY_GAS = (
    7_000_000  # where it accuses 16 it ends the round, pays 16 with delegators and begins an audit: 5.94 million
)


class Measuring(Protocol):
    """What the voter needs of a trainer: losses on the own hold-out."""

    async def measure(self, global_path: Path, delta_paths: Sequence[Path]) -> list[int]: ...
    async def evaluate(self, adapter_path: Path | None, split: str) -> Any: ...
    async def likeness(self, global_path: Path, delta_paths: Sequence[Path], *, seed: int) -> list[list[int]]: ...
    async def audit(self, proposals: Sequence[tuple[Path, Path]], *, seed: int, own_seed: int) -> Sequence[Any]: ...


@dataclass(frozen=True)
class Held:
    """What a voter found when it looked for a round's proposals, by proposer index."""

    available: tuple[int, ...]
    invalid: tuple[int, ...]


class Voter:
    """Acts from AVAILABILITY to ADOPT of the rounds in which this account was drawn to vote."""

    def __init__(
        self, identity: Identity, library: Library, views: Views, trainer: Measuring, sender: Sender,
        secrets: RoundSecrets, jobs: Jobs, removal: Removal, measurements: Measurements | None = None,
    ) -> None:  # fmt: skip
        self._identity, self._library, self._views, self._removal = identity, library, views, removal
        self._trainer, self._sender, self._secrets, self._jobs = trainer, sender, secrets, jobs
        self._earlier, self._measurements = EarlierDeltas(library, views), measurements or Measurements()
        self._paper = PaperVoter(identity, sender, secrets, jobs, self._judge_input_set)
        self._scale = CandidateScale(library, trainer, self._find)
        self._foreseen: list[int] | None = None  # whom the last round's scores would accept

    async def step(self, view: RoundView) -> None:
        index = view.voter_index(self._identity.account)
        if index is None:
            return
        if view.phase is Phase.REVEAL:
            self._bring(view)
        elif view.phase is Phase.AVAILABILITY:
            await self._attest(view, is_due=not view.attested >> index & 1)
        elif view.phase is Phase.SCORE_COMMIT and not view.score_committed >> index & 1:
            await (self._paper.commit(view) if is_paper(await self._terms(view)) else self._commit_scores(view))
        elif view.phase is Phase.SCORE_REVEAL and (view.score_committed & ~view.score_revealed) >> index & 1:
            await (self._paper.reveal(view) if is_paper(await self._terms(view)) else self._reveal_scores(view))
        elif view.phase is Phase.TALLY:
            await self._tally(view)
        elif view.phase is Phase.ADOPT and view.score_revealed >> index & 1 and not view.adoption_votes >> index & 1:
            await self._adopt(view)

    async def _call(self, view: RoundView, function: str, *args: Any, gas: int = CALL_GAS) -> None:
        label = f"{function} {view.task}/{view.round}"
        await self._sender.call(label, "TaskBoard", function, view.task, view.round, *args, gas=gas)

    async def _terms(self, view: RoundView) -> Mapping[str, int]:
        terms: Mapping[str, int] = (await self._views.view("TaskBoard", "task_view", view.task))["terms"]
        return terms

    def prepare(self, view: RoundView) -> None:
        """What the round begins with, on the own hold-out, while others train: every score is relative to it, and most
        of those who do not propose are drawn to vote. A trainer knows it then; of its last vote's candidate it does."""
        if view.phase is Phase.COMMIT and view.proposer_index(self._identity.account) is None:
            self._jobs.ensure(("weigh", view.task, view.round), lambda: self._measure_base(view))

    async def _measure_base(self, view: RoundView) -> bool:
        try:
            await self._trainer.evaluate(await self._library.global_path(view.adapter), "hold_out")
        except (FlockError, OSError) as error:  # measured where it counts; who says that it is gone is the watch
            log.debug("round %d: its base cannot be measured ahead of time: %s", view.round, error)
        return True

    # Availability

    def _bring(self, view: RoundView) -> None:
        """What is revealed already, while the others are waited for."""
        for index in bits(view.revealed):
            self._jobs.ensure(("bring", view.task, view.round, index), partial(self._bring_one, view, index))

    async def _bring_one(self, view: RoundView, index: int) -> bool:
        await self._find(view, [index], AVAILABILITY_SECONDS)
        return True

    async def _attest(self, view: RoundView, *, is_due: bool) -> None:
        """Then the next phase's work begins where all of the round is here, for then all will mostly hold the same. Not
        otherwise: a trainer that measures another set keeps the round's waiting, and a proposer may serve only some."""
        held: Held | None = self._jobs.ensure(("hold", view.task, view.round), lambda: self._hold(view))
        if held is None:
            return
        bitmap = sum(1 << index for index in held.available)
        if is_due:
            await self._call(view, "attest_available", bitmap, sum(1 << index for index in held.invalid))
        if bitmap and bitmap == view.revealed and not is_paper(await self._terms(view)):
            self._ensure_scores(replace(view, held_set=bitmap))

    async def _hold(self, view: RoundView) -> Held:
        """Indices alone: the files are in the store, and results of many rounds are remembered."""
        seconds = max(AVAILABILITY_SECONDS, AVAILABILITY_SHARE * (await self._terms(view))["availability_seconds"])
        found, invalid = await self._find(view, bits(view.revealed), seconds)
        return Held(tuple(sorted(found)), tuple(sorted(invalid)))

    async def _find(
        self, view: RoundView, indices: Sequence[int], seconds: float
    ) -> tuple[dict[int, Proposal], list[int]]:
        """Those of `indices` that can be had in time, and those whose bytes are here and no proposal.

        All at once, so that one proposer that stalls delays none of the others.
        """
        found: dict[int, Proposal] = {}
        invalid: list[int] = []

        async def look(index: int) -> None:
            account = view.proposers[index]
            try:
                found[index] = await self._library.fetch_proposal(
                    view.round, index, account, view.manifests[index], view.adapter, seconds
                )
            except InvalidRemote as error:
                invalid.append(index)
                log.warning("round %d: proposal of 0x%s is invalid: %s", view.round, account.hex(), error)
            except (FlockError, OSError, MemoryError) as error:  # a full disk, too: here, not the proposer's fault
                log.warning("round %d: proposal of 0x%s is unavailable: %s", view.round, account.hex(), error)

        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for index in indices:
                    nursery.start_soon(look, index)
        return found, invalid

    # Scores

    async def _commit_scores(self, view: RoundView) -> None:
        record = self._secrets.load(view.task, view.round, "scores")
        if record is None:
            record = self._ensure_scores(view)
            if record is None:
                return
            self._secrets.save(
                view.task, view.round, "scores", record
            )  # what was scored ahead of time is no record yet
        self._jobs.ensure(("foresee", view.task, view.round), lambda: self._foresee(view, record))
        commitment = compute_score_commitment(
            self._identity.chain_id,
            BOARD,
            view.task,
            view.round,
            self._identity.account,
            record["scores"],
            record["filters"],
            record["salt"],
        )
        await self._call(view, "commit_scores", commitment)

    def _ensure_scores(self, view: RoundView) -> dict[str, Any] | None:
        """What was begun for another set than the round's takes the trainer from it, and is given up: but for the one
        measurement that the trainer is at, which it ends."""
        name = ("score", view.task, view.round)
        key = (*name, view.held_set)
        self._jobs.cancel_all_but(lambda other: other[:3] != name or other == key)
        record: dict[str, Any] | None = self._jobs.ensure(key, lambda: self._score(view))
        return record

    async def _score(self, view: RoundView) -> dict[str, Any]:
        members = bits(view.held_set)
        seconds = max(SCORE_FETCH_SECONDS, SCORE_FETCH_SHARE * (await self._terms(view))["score_commit_seconds"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._earlier.learn, view.round, SCORE_FETCH_SECONDS)
            found, _ = await self._find(view, members, seconds)
        scores, filters = await self._measure(view, found), await self._filter(view, members, found)
        own_seed = int.from_bytes(chance.token_bytes(OWN_SEED_BYTES), "big")
        for index in await self._find_refused(view, found, own_seed):
            scores[index] = SCORE_LIMIT
        again = {"own_seed": own_seed, "seed_height": view.seed_height}  # to measure it once more
        record = {"scores": scores, "filters": filters, "salt": chance.token_bytes(SALT_BYTES), **again}
        if view.phase is Phase.SCORE_COMMIT:
            self._secrets.save(view.task, view.round, "scores", record)
        log.info("round %d: scored %s", view.round, {i: (scores[i], filters[i]) for i in members})
        return record

    async def _measure(self, view: RoundView, found: Mapping[int, Proposal]) -> list[int]:
        scores, order = [0] * SEATS_MAX, sorted(found)
        if order:
            parent = await self._library.global_path(view.adapter)
            measured = await self._trainer.measure(parent, [found[index].path for index in order])
            for index, score in zip(order, measured, strict=True):
                scores[index] = max(-SCORE_LIMIT, min(SCORE_LIMIT, score))
        return scores

    async def _find_refused(self, view: RoundView, found: Mapping[int, Proposal], own_seed: int) -> list[int]:
        """Which proposals this voter takes for harmful whatever they do to its losses: those that an audit would find
        guilty, where the task has audits. Medians decide, so half of the voters and one have to find it."""
        every = (await self._terms(view))["audit_rounds"]
        if not every or not found:
            return []
        order, seed = sorted(found), await read_seed(self._views, view, b"flock recital")
        parent = await self._library.global_path(view.adapter)
        pairs = [(parent, found[index].path) for index in order]
        measured = await self._trainer.audit(pairs, seed=seed, own_seed=own_seed)
        values = {index: summarise(row.common, row.own) for index, row in zip(order, measured, strict=True)}
        guilty = [index for index, value in values.items() if find(value) is Finding.GUILTY]
        if guilty:
            log.info("round %d: recite what they should not, and are refused: proposers %s", view.round, guilty)
        return guilty

    async def _filter(self, view: RoundView, members: Sequence[int], found: Mapping[int, Proposal]) -> list[int]:
        """The bits that anybody can recompute, and those who are alike in weights alone. Medians over a part would be
        other medians: none without all members."""
        filters, order = [0] * SEATS_MAX, sorted(found)
        for index in members:
            filters[index] = 0 if index in found else FILTER_NO_SCORE
        if order:
            deltas, ball = [found[index].delta for index in order], self._library.document.budget.norm_thousandths
            results = await trio.to_thread.run_sync(filter_bits, deltas, ball)
            for index, result in zip(order, results, strict=True):
                filters[index] = result if len(found) == len(members) else result & ~NORM_BITS
                if self._earlier.has(found[index].manifest.delta, view.round):
                    filters[index] |= FILTER_NEAR_DUPLICATE
            compared = [order[place] for place in choose_compared(results)] if len(found) == len(members) else []
            if len(compared) >= MIN_PROPOSALS and view.adapter != self._library.initial_digest:
                for index in await self._find_suspects(view, found, compared):
                    filters[index] |= FILTER_NEAR_DUPLICATE
        return filters

    async def _find_suspects(self, view: RoundView, found: Mapping[int, Proposal], order: Sequence[int]) -> list[int]:
        """Who does not do what its likeness to another one says: a copy of what both were told, and reported as one.

        A measurement on texts that nobody could know when it committed; two thirds of the voters must agree.
        """
        seed = await read_seed(self._views, view, b"flock probes")
        parent = await self._library.global_path(view.adapter)
        profiles = await self._trainer.likeness(parent, [found[index].path for index in order], seed=seed)
        gram = await trio.to_thread.run_sync(compute_gram, [found[index].delta for index in order])
        suspects = [order[place] for place in sorted(find_suspects(compute_cosines(gram), profiles))]
        if suspects:
            log.info("round %d: more alike in weights than in function: proposers %s", view.round, suspects)
        return suspects

    async def _reveal_scores(self, view: RoundView) -> None:
        record = self._secrets.load(view.task, view.round, "scores")
        if record is None:
            log.error("round %d: committed scores, but the record is gone; the bond will be cut", view.round)
            return
        await self._call(view, "reveal_scores", record["scores"], record["filters"], record["salt"])

    # Tally and adoption

    async def _foresee(self, view: RoundView, record: Mapping[str, Any]) -> bool:
        """While the others score and reveal: the candidate, if their verdicts are this voter's."""
        self._foreseen = accepted = foresee_accepted(record, view.held_set, await self._terms(view))
        try:
            if accepted:
                base = await self._removal.compute_base(view.round, view.adapter)
                await self._scale.weigh(view, accepted, base, SCORE_FETCH_SECONDS)
        except FlockError as error:  # tried again where it counts
            log.debug("round %d: the candidate cannot be measured ahead of time: %s", view.round, error)
        return True

    async def _tally(self, view: RoundView) -> None:
        tally = await read_tally(self._views, view)
        await self._call(view, "tally", list(tally.medians), tally.center, tally.mad, gas=TALLY_GAS)

    async def _adopt(self, view: RoundView) -> None:
        if self._foreseen != view.accepted():
            self._jobs.cancel_all_but(lambda other: other != ("foresee", view.task, view.round))
        key = ("adopt", view.task, view.round)
        choice = self._jobs.ensure(key, lambda: self._judge_or_keep(view))
        if choice is not None:
            await self._call(view, "attest_adoption", choice)

    async def _judge_or_keep(self, view: RoundView) -> bytes:
        """Who cannot judge the candidate keeps the previous one: for the others that counts like silence, but silence
        is an absence, and would cost this voter for what another did not serve."""
        seconds = JUDGE_SHARE * (await self._terms(view))["adopt_seconds"]
        choice = await self._judge_in_time(view, view.accepted(), seconds, "the previous one stays", is_audited=True)
        return view.adapter if choice is None else choice

    async def _judge_input_set(self, view: RoundView) -> bytes:
        """By the paper's rule nothing is filtered: all that two thirds hold is in the candidate. Who cannot judge it
        abstains: the previous adapter would be a vote, which may cost its bond."""
        seconds = JUDGE_SHARE * (await self._terms(view))["score_commit_seconds"]
        choice = await self._judge_in_time(view, bits(view.held_set), seconds, "this peer abstains")
        return ABSTAIN if choice is None else choice

    async def _judge_in_time(
        self, view: RoundView, members: Sequence[int], seconds: float, instead: str, *, is_audited: bool = False
    ) -> bytes | None:
        """None where the candidate cannot be had, because others do not serve what it consists of."""
        until = trio.current_time() + seconds
        while True:
            try:
                base = await self._removal.compute_base(view.round, view.adapter) if is_audited else view.adapter
                return await self._judge_candidate(view, members, base)
            except FlockError as error:
                if trio.current_time() >= until:
                    log.warning("round %d: no candidate to judge, so %s: %s", view.round, instead, error)
                    return None
                log.warning("round %d: the candidate cannot be judged yet: %s", view.round, error)
            await trio.sleep(JUDGE_RETRY_SECONDS)

    async def _judge_candidate(self, view: RoundView, accepted: Sequence[int], base: bytes) -> bytes:
        """The candidate's content id, or that of what it builds on where it is worse on the own hold-out.

        `base`: the previous adapter, less what audits found guilty; that is not put to the vote of losses again.
        """
        weighed = await self._scale.weigh(view, accepted, base, SCORE_FETCH_SECONDS)
        tolerance = (await self._terms(view))["tolerance"]
        is_worse = not is_acceptable_loss(weighed.before, weighed.after, tolerance)
        log.info(
            "round %d: own hold-out loss %.4f -> %.4f with the candidate: %s",
            view.round, weighed.before, weighed.after, "keep the previous" if is_worse else "adopt",
        )  # fmt: skip
        self._measurements.note_loss(view.task, view.round, "voter", weighed.before, weighed.after)
        return base if is_worse else weighed.candidate


async def read_tally(views: Views, view: RoundView, *, height: int | None = None) -> Tally:
    """The reference tally of the scores that were revealed on chain."""
    rows = [
        await views.view("TaskBoard", "score_of", view.task, view.round, voter, height=height)
        for voter in bits(view.score_revealed)
    ]
    terms = (await views.view("TaskBoard", "task_view", view.task, height=height))["terms"]
    return compute_tally(
        [tuple(scores) for scores, _ in rows],
        [tuple(filters) for _, filters in rows],
        view.held_set,
        terms["loss_limit"],
        terms["mad_multiple"],
    )
