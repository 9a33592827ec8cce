"""The validator sets that a proof's blocks have made known. Who writes a proof and who checks it forget the same ones.

Somebody who makes up a network makes up any number of sets, too, and each block could be signed by any of them: each is
kept once, few are kept, and a block's signatures are recovered once for all of them.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from flock_chain.consensus.certificates import Recover, verify_finality
from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.types import Certificate
from flock_chain.consensus.validators import ValidatorSet
from flock_chain.consensus.wire import decode_certificate
from flock_chain.crypto import Account, recover
from flock_chain.errors import InvalidContent, InvalidRemote, Misuse
from flock_chain.execution.blocks import Header
from flock_chain.execution.validators import Served, Validator, restarted
from flock_chain.restart import Restart

T = TypeVar("T")
Rows = tuple[tuple[Account, int], ...]  # (account, weight) of a set, in the chain's order

MAX_SETS = 256  # a block is signed by one of the newest two, unless a set of long ago serves again to the last coin


class KnownSets:
    def __init__(self, recover_signer: Recover = recover) -> None:
        self._recover = recover_signer
        self._sets: dict[Rows, ValidatorSet] = {}  # the newest last

    def __len__(self) -> int:
        return len(self._sets)

    def __contains__(self, rows: object) -> bool:
        return rows in self._sets

    def __iter__(self) -> Iterator[ValidatorSet]:
        """The newest first."""
        return reversed(self._sets.values())

    def add(self, found: Iterable[tuple[Account, int]]) -> None:
        """Raises InvalidContent for what is no set."""
        rows = tuple(found)
        validators = self._sets.pop(rows, None) or _make_set(rows)
        self._sets[rows] = validators
        if len(self._sets) > MAX_SETS:
            del self._sets[next(iter(self._sets))]

    def check_finality(self, header: Header, certificate: bytes, domain: ChainDomain) -> None:
        """Raises InvalidContent where none of them has finalized this block."""
        decoded, reason = decode_certificate(certificate), ""
        signers: dict[bytes, Account] = {}  # by signature: all are of one statement, this block's finality

        def recover_once(digest: bytes, signature: bytes) -> Account:
            if signature not in signers:
                signers[signature] = self._recover(digest, signature)
            return signers[signature]

        for validators in self:
            if not _may_have_signed(decoded, validators, signers):
                continue
            try:
                verify_finality(
                    decoded, height=header.height, block_id=header.id, validators=validators, domain=domain,
                    recover_signer=recover_once,
                )  # fmt: skip
                return
            except InvalidRemote as error:
                reason = reason or str(error)
        raise InvalidContent(f"provenance: block {header.height}: not signed by a set that is proven here: {reason}")


def read_sets(served: Served, restart: Restart | None) -> tuple[Rows, Rows]:
    """Who signs after a block whose state says so, and in the next epoch. Raises Misuse for another set's restart."""
    if restart is not None:
        served = restarted(served, restart)
    return _to_rows(served.rows), _to_rows(served.following)


def find_steps(first: Iterable[tuple[Account, int]], blocks: Iterable[tuple[T, tuple[Rows, Rows], bool]]) -> list[T]:
    """Of blocks by height, with the sets that each makes known and whether it is needed in any case: those that a proof
    shows. Whoever checks it has forgotten the same sets by then, and no others."""
    known, steps = KnownSets(), []
    known.add(first)
    for block, sets, is_needed in blocks:
        if is_needed or not all(row in known for row in sets):
            steps.append(block)
            for row in sets:
                known.add(row)
    return steps


def _to_rows(validators: tuple[Validator, ...]) -> Rows:
    return tuple((row.account, row.weight) for row in validators)


def _may_have_signed(certificate: Certificate, validators: ValidatorSet, signers: Mapping[bytes, Account]) -> bool:
    """Whether those that the bitmap names in this set signed, as far as signatures were looked at.

    `verify_finality` makes each set's votes and their digests anew: of 256 sets a hundred times what one set takes.
    """
    bits = int.from_bytes(certificate.bitmap, "little")
    named = (account for position, (account, _) in enumerate(validators.rows) if bits >> position & 1)
    return all(
        signers.get(signature, who) == who for signature, who in zip(certificate.signatures, named, strict=False)
    )


def _make_set(rows: Rows) -> ValidatorSet:
    try:
        return ValidatorSet(rows)
    except Misuse as error:  # of whoever made up the document, or the state
        raise InvalidContent(str(error)) from error
