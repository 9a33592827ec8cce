"""What a demonstration consists of: its peers, their keys, coins and data, and its genesis. Starts nothing."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flock_chain.aggregation import Format
from flock_chain.crypto import Account, Key, keccak256
from flock_chain.errors import Misuse
from flock_chain.genesis import Genesis
from flock_chain.paper_rule import RULE_PAPER, RULE_PROPOSALS
from flock_chain.parameters import DEMO
from flock_p2p.founding import make_founder, make_genesis
from flock_peers.tasks import COIN, Terms
from flock_peers.training.domains import assign_domain

CHAIN_ID = 771_178
MAX_PEERS = 32  # processes on one machine, each with a trainer
MIN_PEERS = 4  # fewer eligible participants make a round unpaid and unslashed
POT = 100 * COIN
HONEST_BOND = 5 * COIN
PAPER_MIN_BOND = COIN  # the paper's rule slashes the honest too: they go on with what is left
POISONER_BOND = 9 * COIN  # who wants to be drawn bonds more; one slash of a half then costs it its seat as well
EXTRA_ROUNDS = 2  # at most, until a poisoner has proposed and enough was taught: chance draws, and voters may keep
ATTACK = "backdoor"  # boosted fourfold: model replacement


@dataclass(frozen=True)
class DemoPeer:
    number: int
    home: Path
    key: Key
    domain: str
    domain_slice: int
    bond: int  # wei
    seed: int
    attack: str  # empty: honest

    @property
    def account(self) -> Account:
        return self.key.account

    @property
    def name(self) -> str:
        return f"peer {self.number}"

    @property
    def title(self) -> str:
        return self.name + (" (poisoner)" if self.attack else "")


@dataclass(frozen=True)
class Plan:
    seed: int
    rounds: int
    folder: Path
    peers: tuple[DemoPeer, ...]
    genesis: Genesis
    terms: Terms
    bits: int = Format().bits  # of the numbers of a delta

    def by_account(self, account: bytes) -> DemoPeer | None:
        return next((peer for peer in self.peers if peer.account == account), None)

    def title_of(self, account: bytes) -> str:
        """Who joined by hand is none of the plan's peers, and is shown by the beginning of its account."""
        peer = self.by_account(account)
        return f"0x{account.hex()[:8]}" if peer is None else peer.title


def make_plan(
    *, peers: int, rounds: int, poisoners: int, seed: int, folder: Path, by_paper: bool = False,
    bits: int = Format().bits, extra_rounds: int = 0,
) -> Plan:  # fmt: skip
    """`extra_rounds`: for whoever stops the task in time (`Watch`); else they are played, too."""
    if not MIN_PEERS <= peers <= MAX_PEERS:
        raise Misuse(f"--peers {peers}: a demo has {MIN_PEERS} to {MAX_PEERS} peers")
    if not 0 <= poisoners <= (peers - 1) // 3:
        raise Misuse(f"--poisoners {poisoners}: with {peers} peers at most {(peers - 1) // 3}, less than a third")
    if not 1 <= rounds <= 100:
        raise Misuse(f"--rounds {rounds}: 1 to 100")
    made = tuple(_make_peer(number, peers, poisoners, seed, folder) for number in range(peers))
    terms = Terms(
        rounds=rounds,
        extra_rounds=extra_rounds,
        proposers=max(1, min(8, peers // 2)),
        voters=max(3, min(7, peers - peers // 2)),
        min_participants=peers - poisoners,  # a slashed poisoner may lose its seat; the others go on
        min_bond=PAPER_MIN_BOND if by_paper else HONEST_BOND,
        voting_rule=RULE_PAPER if by_paper else RULE_PROPOSALS,
        audit_rounds=0 if by_paper else min(2, rounds),
    )
    founders = [make_founder(peer.key) for peer in made]
    genesis = make_genesis(f"flock-demo-{seed}", founders, DEMO, chain_id=CHAIN_ID, timestamp=int(time.time()))
    return Plan(seed, rounds, folder, made, genesis, terms, bits)


def set_apart(plan: Plan, attacks: Sequence[str], bond: int) -> tuple[Plan, tuple[DemoPeer, ...]]:
    """The last peers of a plan as outsiders, for trials: coins in the genesis, no validators, an attack and a bond in
    wei each. The plan that is left starts without them."""
    inside = plan.peers[: len(plan.peers) - len(attacks)]
    outside = tuple(
        replace(peer, attack=attack, bond=bond) for peer, attack in zip(plan.peers[len(inside) :], attacks, strict=True)
    )
    accounts = {peer.account for peer in inside}
    validators = tuple(row for row in plan.genesis.validators if row.account in accounts)
    genesis = replace(plan.genesis, validators=validators)
    terms = replace(plan.terms, min_participants=len(inside))
    return replace(plan, peers=inside, genesis=genesis, terms=terms), outside


def choose_poisoners(peers: int, poisoners: int) -> tuple[int, ...]:
    """Those with the text that the base model knows best come first: what they offer is missed least."""
    order = sorted(range(peers), key=lambda number: (assign_domain(number)[0] not in ("python", "docs"), -number))
    return tuple(sorted(order[:poisoners]))


def _make_peer(number: int, peers: int, poisoners: int, seed: int, folder: Path) -> DemoPeer:
    is_poisoner = number in choose_poisoners(peers, poisoners)
    domain, domain_slice = assign_domain(number)
    return DemoPeer(
        number=number,
        home=folder / f"peer{number}",
        key=Key(keccak256(b"flock-demo-key", seed.to_bytes(32, "big"), number.to_bytes(4, "big"))),
        domain=domain,
        domain_slice=domain_slice,
        bond=POISONER_BOND if is_poisoner else HONEST_BOND,
        seed=seed * 1_000 + number,
        attack=ATTACK if is_poisoner else "",
    )
