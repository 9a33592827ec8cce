"""Which votes of this account count as another process's: none that this signer still remembers."""

from consensus_support import DOMAIN, certify, real_key

from flock_chain.consensus.signer import Signer
from flock_chain.consensus.types import NO_BLOCK, Kind
from flock_chain.consensus.validators import ValidatorSet
from flock_peers.driver.own_votes import MAX_REMEMBERED, OwnVotes

KEYS = [real_key(index) for index in range(4)]
SET = ValidatorSet(tuple((key.account, 1) for key in KEYS))


def test_a_height_of_very_many_views_makes_no_stranger_of_its_first_votes() -> None:
    """They were once forgotten, and a certificate of the first view stopped the signer of a network in trouble."""
    signer = Signer(KEYS[0], DOMAIN)
    own = OwnVotes(DOMAIN, KEYS[0].account, signer)
    for view in range(1, MAX_REMEMBERED + 2):
        _, record = signer.sign(Kind.NULLIFY, 5, view)
        assert record is not None
        own.note(record)
    first = certify(KEYS[:3], SET, Kind.NULLIFY, 5, 1, NO_BLOCK)
    again = OwnVotes(DOMAIN, KEYS[0].account, signer)  # after a restart
    assert own.find_unknown(first, SET) is None and again.find_unknown(first, SET) is None
    foreign = certify(KEYS[:3], SET, Kind.NOTARIZE, 5, 1, bytes([1]) * 32)
    found = own.find_unknown(foreign, SET)
    assert found is not None and (found.signer, found.kind) == (KEYS[0].account, Kind.NOTARIZE)
