"""The table of wrong validators that the simulator must convict, and the faults that bring each out."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from flock_chain.consensus.core import Core
from flock_chain.consensus.validators import ValidatorSet
from flock_p2p.simulate import wrong_cores as wrong
from flock_p2p.simulate.disk import Disk, HastyDisk, LossyDisk, TrustingDisk
from flock_p2p.simulate.ledgers import MoodyLedger
from flock_p2p.simulate.scenario import Scenario
from flock_p2p.simulate.sins import ForgetfulSigner
from flock_p2p.simulate.worlds import Variant


def _smaller_quorum(quorum: Callable[[int], int]) -> Callable[[ValidatorSet], ValidatorSet]:
    def change(members: ValidatorSet) -> ValidatorSet:
        changed = ValidatorSet(members.rows)
        object.__setattr__(changed, "quorum", quorum(members.total))
        return changed

    return change


def _blind(members: ValidatorSet) -> ValidatorSet:
    return ValidatorSet(tuple((account, 1) for account, _ in members.rows))


@dataclass(frozen=True)
class Mutant:
    name: str
    variant: Variant
    faults: tuple[str, ...]  # that bring it out; the campaign tries a mix of all first


def _core(core: type[Core]) -> Variant:
    """With a signer that refuses nothing: the core alone has to be safe."""
    return Variant(core=core, signer=ForgetfulSigner)


def _disk(disk: type[Disk]) -> Variant:
    return Variant(signer=ForgetfulSigner, disk=disk)


_CRASHES = ("crash", "blackout", "drop", "twins")
_CRASHES_AND_SILENCE = ("crash", "blackout", "silent", "drop")
_LIES = ("liar", "rounds", "skew", "drop")

MUTANTS = (
    Mutant("no logs", _disk(LossyDisk), _CRASHES),
    Mutant("quorum of 2f", Variant(members=_smaller_quorum(lambda total: 2 * ((total - 1) // 3))), ("split", "rounds")),
    Mutant("quorum of a majority", Variant(members=_smaller_quorum(lambda total: total // 2 + 1)), ("split", "rounds")),
    Mutant("second notarize", _core(wrong.SecondNotarize), ("twins", "drop")),
    Mutant("finalize after nullify", _core(wrong.FinalizeAfterNullify), ("drop", "rounds")),
    Mutant("nullify after finalize", _core(wrong.NullifyAfterFinalize), ("drop", "rounds")),
    Mutant("nullify of an old view", _core(wrong.NullifyOfAnOldView), ("drop", "rounds")),
    Mutant("replay forgets nullify", _core(wrong.ReplayForgetsNullify), _CRASHES),
    Mutant("replay forgets proposals", _core(wrong.ReplayForgetsProposals), _CRASHES),
    Mutant("own votes not counted again", _core(wrong.OwnVotesNotCountedAgain), _CRASHES_AND_SILENCE),
    Mutant("a vote counts twice", _core(wrong.CountsTwice), ("duplicate", "split", "rounds")),
    Mutant("send before sync", _core(wrong.SendBeforeSync), ("crash",)),
    Mutant("never syncs", _core(wrong.NeverSyncs), ("crash",)),
    Mutant("re-proposal without its notarization", _core(wrong.ReproposalUnchecked), _LIES),
    Mutant("fresh proposal without nullifications", _core(wrong.GapUnchecked), _LIES),
    Mutant("leader ignores the notarized parent", _core(wrong.LeaderIgnoresParent), ("rounds", "drop")),
    Mutant("certificates not in the log", _core(wrong.CertificatesNotLogged), ("blackout", "silent", "drop", "rounds")),
    # beyond the design's list
    Mutant("bodies not in the log", _core(wrong.BodiesNotLogged), ("blackout", "crash", "silent", "drop", "rounds")),
    Mutant("decides what is only notarized", _core(wrong.DecidesWhatIsNotarized), ("rounds", "twins", "skew")),
    Mutant("blocks are not checked", _core(wrong.BlocksUnchecked), ("bad-blocks", "twins")),
    Mutant("signatures are not checked", _core(wrong.SignaturesUnchecked), ("forge",)),
    Mutant("weight of certificates is not checked", _core(wrong.CertificateWeightUnchecked), ("forge",)),
    Mutant("heads counted instead of weight", Variant(members=_blind), ("split", "rounds")),
    Mutant("accuses the innocent", _core(wrong.AccusesTheInnocent), ("twins", "rounds")),
    Mutant("execution differs between machines", Variant(ledger=MoodyLedger), ()),
    Mutant("a damaged log is cut and used", _disk(TrustingDisk), ("corrupt", "crash", "drop")),
    Mutant("a lost signer signs at once", _disk(HastyDisk), ("lost-signer", "crash", "drop")),
    Mutant("keeps its first validator set", _core(wrong.KeepsItsFirstSet), ("set-change",)),
    Mutant("never retries", _core(wrong.NeverRetries), ("drop", "partition")),
    Mutant("no view timer", _core(wrong.NoViewTimer), ("silent",)),
    Mutant("timers without work", _core(wrong.TimersWithoutWork), ("on-demand",)),
    Mutant("never asks when it is behind", _core(wrong.NeverTellsWhoIsBehind), ("laggard", "drop")),
    Mutant("what was found valid is not pinned", Variant(pins=False), ("flush", "twins")),
    Mutant("buffers without bound", _core(wrong.BuffersEverything), ("flood",)),
    Mutant("takes votes of every view", _core(wrong.TakesEveryView), ("flood",)),
)  # fmt: skip


PATIENCE_MS = 30_000  # after GST: who makes no progress then makes none


def focus(mutant: Mutant, scenario: Scenario) -> Scenario:
    """What some mutants need beside their faults: sizes at which a rule differs from the right one, enough bad luck."""
    scenario = replace(scenario, after=PATIENCE_MS)
    if mutant.name == "quorum of a majority":
        return replace(scenario, n=5 if scenario.n % 2 else 7, weights=None, byzantine=2)
    if mutant.name == "heads counted instead of weight":
        return replace(scenario, n=4, weights=(1, 1, 4, 4), byzantine=2)
    if mutant.variant.disk in (TrustingDisk, HastyDisk):
        return replace(scenario, crash=0.02, corrupt=bool(scenario.corrupt), lost_signer=bool(scenario.lost_signer))
    return scenario
