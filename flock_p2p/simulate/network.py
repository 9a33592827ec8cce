"""Which message arrives, and when. Until GST it may be lost, doubled, delayed or held back; then it is not."""

from collections.abc import Callable
from typing import Any

from flock_chain.consensus.types import Message, Status
from flock_p2p.simulate.chance import Chance
from flock_p2p.simulate.node import Node
from flock_p2p.simulate.scenario import Scenario

LINK_MS = 20  # a well link takes up to this
KIND_HITS = 0.5  # of the nodes, that a lost kind of message never reaches
SPOKEN_TO = 0.55  # of the nodes, by one that misbehaves, in one view


class Network:
    def __init__(self, scenario: Scenario, chance: Chance, size: int, note: Callable[..., None]) -> None:
        self._scenario, self._chance, self._size, self._note = scenario, chance, size, note
        self._random = chance.random
        self._masks: dict[Any, frozenset[int]] = {}
        self._groups: list[int] | None = None
        self._is_split = scenario.sin == "split"
        self.cut_off: int | None = None

    def divide(self, honest: list[int]) -> None:
        """Two halves of the honest ones until GST; colluders have a twin in each."""
        self._groups = [0] * self._size
        for position, index in enumerate(honest):
            self._groups[index] = position % 2

    def repartition(self) -> None:
        split = self._chance.fault(self._scenario.partition)
        self._groups = [self._random.randrange(2) for _ in range(self._size)] if split else None
        self._note("partition: %s", self._groups) if split else self._note("the network is whole")

    def heal(self) -> None:
        self._groups, self.cut_off = None, None

    def copies(self) -> int:
        return 2 if self._chance.fault(self._scenario.duplicate) else 1

    def delay(self, is_well: bool) -> float:
        tail = 0.0 if is_well else self._random.expovariate(1 / self._scenario.tail)
        return LINK_MS * self._random.random() + tail

    def is_blocked(self, source: Node, target: Node, message: Message) -> bool:
        """Before GST."""
        scenario, groups = self._scenario, self._groups
        if scenario.colluders:
            return self._side(source) != self._side(target) or self._chance.fault(scenario.drop)
        bridged = self._is_split and not (source.honest and target.honest)
        if groups and groups[source.index] != groups[target.index] and not bridged:
            return True
        if self.cut_off is not None and self.cut_off in (source.index, target.index):
            return True
        if scenario.kind_fault and source.honest and self._is_kind_blocked(target, message):
            return True
        if not source.honest and not self._serves(source, target, message):
            return True
        if self._is_split and not target.honest and source.honest and isinstance(message, Status):
            return True
        if self._chance.fault(scenario.drop):
            self._note("lost: %s -> %s %s", source, target, message)
            return True
        return False

    def _side(self, node: Node) -> int:
        """Of colluders: each twin lives in one half."""
        assert self._groups is not None
        return self._groups[node.index] if node.honest else node.twin

    def _is_kind_blocked(self, target: Node, message: Message) -> bool:
        key = ("kind", message.height, message.view, type(message).__name__, getattr(message, "kind", None))
        mask = self._masks.get(key)
        if mask is None:
            hit = self._chance.fault(self._scenario.kind_fault)
            mask = self._masks[key] = self._chance.subset(self._size, KIND_HITS) if hit else frozenset()
            if hit:
                self._note("lost to nodes %s: every %s", sorted(mask), message)
        return target.index in mask

    def _serves(self, source: Node, target: Node, message: Message) -> bool:
        """A misbehaving node speaks to some only; the twins of "split" each to their side of every view."""
        if self._is_split:
            if isinstance(message, Status):
                return False
            mask = self._mask(("split", message.height, message.view), 0.5)
            return not target.honest or (target.index in mask) == bool(source.twin)
        return target.index in self._mask(("mask", source.index, source.twin, message.height, message.view), SPOKEN_TO)

    def _mask(self, key: Any, share: float) -> frozenset[int]:
        mask = self._masks.get(key)
        if mask is None:
            mask = self._masks[key] = self._chance.subset(self._size, share)
        return mask
