"""Every round of every task, recomputed: proposals, votes, and the chain of global adapters from the document on.

Reads the replayed state and the stored blobs; decides what a missing or a wrong one means for the report.
"""

from hashlib import sha256
from typing import Any

from flock_chain.aggregation import Delta, GlobalAdapter, apply, encode_global, filter_bits, parse_global, take_out
from flock_chain.audit_rule import Adopted, RemovalStep, plan_removal
from flock_chain.content import format_cid
from flock_chain.errors import FlockError, InvalidContent, InvalidRemote
from flock_chain.execution.executor import Executor
from flock_chain.tally import FILTER_NORM_SLASH, Verdict, has_two_thirds
from flock_p2p.verify.accusations import check_case
from flock_p2p.verify.audits import read_audits
from flock_p2p.verify.proposals import Place, examine
from flock_p2p.verify.report import Progress, VerifyReport
from flock_p2p.verify.votes import Ballot, check_aggregate, check_filters, check_tally, check_untallied, members
from flock_peers.plural import plural
from flock_peers.roles.board import as_account, bits
from flock_peers.roles.library import compute_file_digest
from flock_peers.roles.paper_voter import is_paper
from flock_peers.store.blob_reader import BlobReader
from flock_peers.training.document import TaskDocument, compute_initial_adapter, decode_document

MAX_PARAMETERS = 1 << 27  # of an adapter that is recomputed: 1 GiB of grid, several of which are held
NO_MANIFEST = bytes(32)  # on chain, where nothing was revealed


def check_tasks(executor: Executor, blobs: BlobReader, report: VerifyReport, progress: Progress) -> None:
    if "TaskBoard" not in executor.contracts:
        return
    count: Any = executor.view("TaskBoard", "task_count")
    for task in range(1, count + 1):
        report.tasks += 1
        _TaskCheck(task, executor, blobs, report).run(progress)


class _TaskCheck:
    """One task: walks its rounds and carries the global adapter along."""

    def __init__(self, task: int, executor: Executor, blobs: BlobReader, report: VerifyReport) -> None:
        self._task, self._executor, self._blobs, self._report = task, executor, blobs, report
        self._chain = executor.genesis.hash
        self._row: Any = self._view("task_view", task)
        self._name = f"task {task}"
        self._document = self._read_document()
        self._digest: bytes = self._row["adapter0"]
        self._adapter: GlobalAdapter | None = None  # of _digest, where it could be had
        self._seen: set[bytes] = set()  # the deltas of the rounds so far
        self._past: list[tuple[bytes, GlobalAdapter | None]] = []  # before the present one, to fall back to
        self._lineage: list[Adopted] = []  # what the present one consists of, as long as `_past`
        self._audits = read_audits(self._view, task)
        self._malformed: set[tuple[int, int]] = set()  # round and proposer index
        self._only_took_out = False  # the round that is looked at adopted no contribution

    def _view(self, function: str, *arguments: Any) -> Any:
        return self._executor.view("TaskBoard", function, *arguments)

    def run(self, progress: Progress) -> None:
        self._start()
        last = self._row["round"]
        for number in range(1, last + 1):
            result = self._view("round_result", self._task, number)
            if result["proposers"]:  # else the round has not begun
                self._check_round(number, result)
            progress(f"task {self._task} rounds", number, last)
        self._tell_of_guilty(last)
        if self._row["adapter"] != self._digest:
            self._report.fail(f"{self._name}: its current adapter is not that of its last round")

    def _tell_of_guilty(self, last: int) -> None:
        """A round takes out what the audits before it found; what was found after the last one stays."""
        plan = [] if is_paper(self._row["terms"]) else plan_removal(self._lineage, self._audits, last + 1)
        if plan:
            where = ", ".join(f"round {row.round} proposer {index}" for row in plan for index in row.out)
            self._report.remarks.append(
                f"{self._name}: its current adapter still contains what audits found guilty since: {where}"
            )

    # ---- the document and the round-0 adapter
    def _read_document(self) -> TaskDocument | None:
        digest = self._row["document"]
        try:
            data = self._blobs.read_object(digest)
        except InvalidRemote as error:
            self._report.fail(f"{self._name}: document {format_cid(digest)}: {error}")
            return None
        if data is not None:
            return self._parse_document(data)
        self._report.skip(f"{self._name}: its document is not stored here, so no proposal or adapter of it was checked")
        return None

    def _parse_document(self, data: bytes) -> TaskDocument | None:
        """A creator's bad document is no fault of this home: no honest peer takes part in such a task."""
        try:
            document = decode_document(data)
        except InvalidRemote as error:
            self._report.skip(f"{self._name}: its document cannot be read: {error}")
            return None
        if document.layout.parameters > MAX_PARAMETERS:
            self._report.skip(f"{self._name}: an adapter of {document.layout.parameters} parameters is not recomputed")
            return None
        return document

    def _start(self) -> None:
        if self._document is None:
            self._report.add_adapter(self._task, 0, self._digest, "not recomputed")
            return
        initial = compute_initial_adapter(self._document)
        if compute_file_digest(encode_global(initial)) == self._digest:
            self._adapter = initial
            self._check_stored(self._digest)
            self._report.add_adapter(self._task, 0, self._digest, "computed from the document")
        else:  # both ids are on chain: no home can help it, and no honest peer takes part
            self._document = None
            self._report.skip(
                f"{self._name}: its round-0 adapter is not the one that its document describes: its creator's fault; "
                "no proposal or adapter of it was checked"
            )
            self._report.add_adapter(self._task, 0, self._digest, "not recomputed: not the document's")

    # ---- rounds
    def _check_round(self, number: int, result: Any) -> None:
        self._report.rounds += 1
        where = f"{self._name} round {number}"
        if result["adapter_before"] != self._digest:
            self._report.fail(f"{where}: begins with another adapter than the round before left")
        deltas = self._examine_proposals(number, result)
        self._check_votes(where, number, result, deltas, self._find_repeated(result, deltas))
        self._check_accusations(where, number, result, deltas)
        if result["settled"]:
            self._check_adapter(number, result, deltas)

    def _examine_proposals(self, number: int, result: Any) -> dict[int, Delta]:
        """The well-formed ones that are stored here, by proposer index."""
        deltas: dict[int, Delta] = {}
        if self._document is None:
            return deltas
        for index, (proposer, manifest) in enumerate(zip(result["proposers"], result["manifests"], strict=True)):
            if manifest == NO_MANIFEST:
                continue
            place = Place(self._chain, self._task, number, as_account(proposer), result["adapter_before"])
            finding = examine(self._blobs, manifest, place, self._document)
            verdict, is_member = Verdict(result["verdicts"][index]), bool(result["held_set"] >> index & 1)
            if finding.missing:
                self._report.skip(f"{place} ({verdict.name}): {finding.missing} is not stored here")
                continue
            self._report.proposals += 1
            if finding.damaged:
                self._report.fail(f"{place} ({verdict.name}): {finding.damaged}")
            elif finding.malformed and is_member:
                self._report.fail(f"{place}: two thirds of the voters attested it as good, but {finding.malformed}")
            elif finding.delta is not None:
                deltas[index] = finding.delta
                if verdict is Verdict.INVALID:
                    self._report.fail(f"{place}: rejected as invalid bytes, but it is well formed")
            elif finding.malformed:
                self._malformed.add((number, index))
        return deltas

    def _find_repeated(self, result: Any, deltas: dict[int, Delta]) -> set[int]:
        """Whose delta an earlier round held already: canonical, so equal bytes are equal vectors."""
        keys = {
            index: sha256(delta.mantissas.tobytes() + delta.exponents.tobytes()).digest()
            for index, delta in deltas.items()
        }
        repeated = {index for index, key in keys.items() if key in self._seen}
        self._seen |= {keys[index] for index in members(result) if index in keys}
        return repeated

    def _check_votes(self, where: str, number: int, result: Any, deltas: dict[int, Delta], repeated: set[int]) -> None:
        if is_paper(self._row["terms"]):
            if result["settled"]:
                seats = bits(result["scores_revealed"])
                votes = {seat: bytes(self._view("vote_of", self._task, number, seat)) for seat in seats}
                check_aggregate(where, result, votes, self._report)
            return
        if not result["tallied"]:
            if result["settled"]:
                check_untallied(where, result, self._report)
            return
        ballots = []
        for seat in bits(result["scores_revealed"]):
            scores, filters = self._view("score_of", self._task, number, seat)
            ballots.append(Ballot(as_account(result["voters"][seat]), scores, filters))
        check_tally(where, result, ballots, self._row["terms"], self._report)
        if self._document is None:
            return
        if all(index in deltas for index in members(result)):
            ball = self._document.budget.norm_thousandths
            is_first = result["adapter_before"] == self._row["adapter0"]
            check_filters(where, result, ballots, deltas, repeated, ball, self._report, is_first=is_first)
        else:
            self._report.skip(f"{where}: filters not recomputed: they compare all proposals of the input set")

    def _check_accusations(self, where: str, number: int, result: Any, deltas: dict[int, Delta]) -> None:
        case = self._view("case_view", self._task, number)
        if not case["named"]:
            return
        truth: dict[int, bool] = {}
        order = members(result)
        if self._document is not None and order and all(index in deltas for index in order):
            found = filter_bits([deltas[index] for index in order], self._document.budget.norm_thousandths)
            truth |= {index: bool(value & FILTER_NORM_SLASH) for index, value in zip(order, found, strict=True)}
        for index, verdict in enumerate(result["verdicts"]):
            is_malformed = (number, index) in self._malformed
            if verdict == Verdict.INVALID and (is_malformed or index in deltas):
                truth[index] = is_malformed
        check_case(where, result, case, truth, self._report)

    # ---- adapters
    def _check_adapter(self, number: int, result: Any, deltas: dict[int, Delta]) -> None:
        before, after = result["adapter_before"], result["adapter_after"]
        accepted = [index for index, verdict in enumerate(result["verdicts"]) if verdict == Verdict.ACCEPTED]
        where = f"{self._name} round {number}"
        following: GlobalAdapter | None
        self._only_took_out = False
        if self._gave_up(number):
            self._fall_back(number, after)
            return
        if not accepted:
            origin, following = "the previous one: no proposal was accepted", self._adapter
            if after != before:
                self._report.fail(f"{where}: adopted {format_cid(after)} though no proposal was accepted")
                origin, following = "WRONG: nothing was accepted", self._read_adapter(after)
        elif self._adapter is None or not all(index in deltas for index in accepted):
            missing = "an accepted proposal" if self._adapter is not None else "the adapter before it"
            self._report.skip(f"{where}: its adapter was not recomputed: {missing} is not here in good order")
            origin = "not recomputed"
            following = self._adapter if after == before else self._read_adapter(after)
        else:
            origin, following = self._compare_candidate(where, number, result, [deltas[index] for index in accepted])
        self._check_stored(after)
        self._report.add_adapter(self._task, number, after, origin)
        if after != before:
            self._past.append((before, self._adapter))
            added = () if self._only_took_out else tuple((i, as_account(result["proposers"][i])) for i in accepted)
            self._lineage.append(Adopted(number, added))
        self._digest, self._adapter = after, following

    def _gave_up(self, number: int) -> bool:
        missing, stake = self._view("missing_stake", self._task, number)
        return bool(missing > 0 and has_two_thirds(missing, stake))

    def _fall_back(self, number: int, after: bytes) -> None:
        """Two thirds of the stake said that the round's parent is nowhere: what follows is the one before it."""
        expected = self._past[-1][0] if self._past else self._digest
        if after != expected:
            self._report.fail(
                f"{self._name} round {number}: gave up its adapter for {format_cid(after)}, but the one before was "
                f"{format_cid(expected)}"
            )
        self._digest, self._adapter = self._past.pop() if self._past else (after, self._adapter)
        del self._lineage[len(self._past) :]
        self._report.add_adapter(self._task, number, after, "the one before: two thirds of the stake could not get it")

    def _compare_candidate(
        self, where: str, number: int, result: Any, accepted: list[Delta]
    ) -> tuple[str, GlobalAdapter | None]:
        """What the adopted adapter is, and its content where that is known."""
        assert self._adapter is not None
        after = result["adapter_after"]
        kept = "the previous one: the voters did not adopt the candidate"
        plan = [] if is_paper(self._row["terms"]) else plan_removal(self._lineage, self._audits, number)
        try:
            base = self._take_out(plan)
            if base is None:
                self._report.skip(f"{where}: its adapter was not recomputed: what audits took out is not all here")
                return "not recomputed", self._adapter if after == result["adapter_before"] else self._read_adapter(
                    after
                )
            self._only_took_out = bool(plan) and after == compute_file_digest(encode_global(base))
            candidate = apply(base, accepted)
        except InvalidContent as error:
            if after == result["adapter_before"]:
                return f"{kept} ({error})", self._adapter
            self._report.fail(f"{where}: adopted {format_cid(after)}, but there is no candidate: {error}")
            return "WRONG: there is no candidate", self._read_adapter(after)
        digest = compute_file_digest(encode_global(candidate))
        less = f", less {sum(len(row.out) for row in plan)} contributions that audits found guilty" if plan else ""
        if after == digest:
            return f"recomputed from {plural(len(accepted), 'accepted proposal')}{less}", candidate
        if self._only_took_out:
            return f"the previous one{less}: the voters did not adopt the candidate {format_cid(digest)}", base
        if after == result["adapter_before"]:
            return f"{kept} {format_cid(digest)}", self._adapter
        self._report.fail(
            f"{where}: the voters adopted {format_cid(after)}, but its accepted proposals give {format_cid(digest)}"
        )
        return "WRONG: not what the accepted proposals give", self._read_adapter(after)

    def _take_out(self, plan: list[RemovalStep]) -> GlobalAdapter | None:
        """The present adapter without what audits found guilty; None where a proposal of those rounds is not here."""
        assert self._adapter is not None and self._document is not None
        adapter = self._adapter
        for row in plan:
            result = self._view("round_result", self._task, row.round)
            deltas = []
            for index in row.present:
                proposer = as_account(result["proposers"][index])
                place = Place(self._chain, self._task, row.round, proposer, result["adapter_before"])
                found = examine(self._blobs, result["manifests"][index], place, self._document).delta
                if found is None:
                    return None
                deltas.append(found)
            adapter = take_out(adapter, deltas, row.places)
        return adapter

    def _read_adapter(self, digest: bytes) -> GlobalAdapter | None:
        """From the store, to go on from where it could not be computed."""
        if self._document is None:
            return None
        try:
            data = self._blobs.read_file(digest)
            return None if data is None else parse_global(data, self._document.layout, self._document.format)
        except FlockError:
            return None  # `_check_stored` says what is wrong with the file

    def _check_stored(self, digest: bytes) -> None:
        """The stored copy of an adapter is what this peer trains from, serves and exports."""
        try:
            self._blobs.read_file(digest)
        except InvalidContent as error:
            text = f"{self._name}: global adapter: {error}"
            if text not in self._report.failures:  # a round that adopts nothing names the same file again
                self._report.fail(text)
