"""A finished demo's participants once more: each with its rows, seed and secrets, and all with one model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from flock_chain.crypto import Account
from flock_p2p.demo.plan import DemoPeer
from flock_peers.home import Home
from flock_peers.roles.secrets import RoundSecrets
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.document import TaskDocument
from flock_peers.training.engine import Engine
from flock_peers.training.feedback import Feedback
from flock_peers.training.inspection import OwnView
from flock_peers.training.model import AdaptedModel
from flock_peers.training.remembered import Remembered
from flock_peers.training.rows import builtin_rows, split_rows


@dataclass
class Participant:
    peer: DemoPeer
    engine: Engine
    own: OwnView
    secrets: RoundSecrets
    remembered: Remembered = field(default_factory=Remembered)


def make_people(peers: Sequence[DemoPeer], document: TaskDocument, scratch: Path) -> dict[Account, Participant]:
    torch.set_num_threads(1)
    model, people = AdaptedModel(BASE_FOLDER, document), {}
    for peer in peers:
        home, rest = Home(peer.home), scratch / f"rest-of-{peer.number}"
        rest.mkdir()
        split = split_rows(builtin_rows(peer.domain, peer.domain_slice), home.path / "training" / "split.json")
        feedback = Feedback(rest, document.encode(), document.layout.parameters)
        engine = Engine(model, document, split, peer.attack or None, feedback=feedback)
        people[peer.account] = Participant(
            peer, engine, OwnView(engine), RoundSecrets(home.path / "rounds" / "secrets")
        )
    return people
