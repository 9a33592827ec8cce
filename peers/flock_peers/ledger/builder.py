"""How this peer makes a block: its key, its randomness proof, and the votes that the block shows. Runs in the EVM's
thread; knows no mempool, no time of waiting, and not who leads."""

from collections.abc import Callable, Sequence

from flock_chain import ecvrf
from flock_chain.consensus.attendance import make_attendance
from flock_chain.consensus.certificates import votes_of
from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.types import Vote
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import decode_certificate
from flock_chain.crypto import Account, Key
from flock_chain.errors import InvalidRemote, Unavailable
from flock_chain.execution import records
from flock_chain.execution.block_run import Candidate
from flock_chain.execution.executor import Executor
from flock_chain.execution.machine import KeyValues
from flock_chain.execution.transactions import Transaction
from flock_peers.ledger.served_sets import make_set


class Builder:
    def __init__(
        self, executor: Executor, rows: KeyValues, domain: ChainDomain, key: Key, clock: Callable[[], float]
    ) -> None:
        """`rows`: of the chain, certificates among them. `clock`: seconds since 1970."""
        self._executor, self._rows, self._domain, self._clock = executor, rows, domain, clock
        self._vrf_seed = ecvrf.derive_seed(key)
        self.account: Account = key.account

    def build(self, height: int, transactions: Sequence[Transaction], votes: Sequence[Vote]) -> Candidate:
        """Leaves out what cannot be included. Raises Unavailable where the head is not the one before `height`."""
        parent = self._executor.head
        if parent.height + 1 != height:
            raise Unavailable(f"ledger: block {height} cannot be built on the head at {parent.height}")
        return self._executor.execute(
            parent,
            transactions,
            timestamp=max(parent.timestamp, int(self._clock())),
            proposer=self.account,
            vrf_proof=ecvrf.prove(self._vrf_seed, self._executor.vrf_alpha(parent)),
            strict=False,
            attendance=self._make_attendance(votes),
        )

    def _make_attendance(self, votes: Sequence[Vote]) -> bytes:
        """Of the head's height; nothing where everybody voted, or for genesis and a restart, which had no votes.

        Nor where none was heard: the certificate alone names absent whoever was slower than the first quorum.
        """
        head = self._executor.head
        if not votes or head.height == 0 or self._executor.find_restart(head) is not None:
            return b""
        validators = make_set(self._executor.served().before)
        certified = self._certified_votes(head.height, validators)
        return make_attendance(head.height, [*votes, *certified], validators, self._domain)

    def _certified_votes(self, height: int, validators: ValidatorSet) -> tuple[Vote, ...]:
        data = self._rows.get(records.certificate_key(height))
        try:
            return () if data is None else votes_of(decode_certificate(data), validators)
        except InvalidRemote:  # tools and tests commit blocks without a real one
            return ()
