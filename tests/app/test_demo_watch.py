"""How long a demo waits for what its peers train alone."""

from types import SimpleNamespace
from typing import Any

import pytest

from flock_chain.errors import Unavailable
from flock_p2p.demo import watch
from flock_p2p.demo.watch import Watch, Watched

FOUND = {"mean": 3.0, "domains": {}}


class SlowPeer:
    """A network of one, whose baseline takes so many seconds of a clock that only waiting moves."""

    def __init__(self, seconds: float) -> None:
        self.plan = SimpleNamespace(peers=[SimpleNamespace(number=0, attack=None)], folder="here")
        self.now, self._seconds = 0.0, seconds

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def ask(self, _number: int, _method: str, **_params: Any) -> Any:
        return {"baseline": FOUND if self.now >= self._seconds else None}


def test_a_longer_demo_has_more_time_to_train_its_peers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one of eight rounds on a busy machine ends in an error, and takes a network down that was to stay up."""
    for rounds, is_enough in ((8, True), (6, False)):
        network: Any = SlowPeer(500.0)
        monkeypatch.setattr(watch, "time", network)
        watched = Watched(rounds=rounds)
        if is_enough:
            Watch(network, lambda _text: None).run_baselines(watched)
            assert watched.baselines == {0: FOUND}
        else:
            with pytest.raises(Unavailable, match="longer than 480 s; see here"):
                Watch(network, lambda _text: None).run_baselines(watched)
