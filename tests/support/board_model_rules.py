"""The twin's numbers: which hold for the running round, who agreed to which others, and when those are in force."""

from contracts_support import PARAMETERS

Numbers = dict[str, int]


class Rules:
    """`rules` is what the running round began with, `in_force` what the next one begins with."""

    now: int

    def __init__(self, setters: dict[bytes, int]) -> None:
        """`setters`: the weights of the serving set."""
        self.setters = setters
        self.rules = self.in_force = dict(PARAMETERS)
        self.approvals: list[tuple[bytes, Numbers, int]] = []  # who, to what, when; since the last agreement
        self.agreed: tuple[Numbers, int] | None = None  # and from when

    def approve(self, who: bytes, numbers: Numbers) -> bool:
        if who not in self.setters:
            return False
        self.approvals.append((who, numbers, self.now))
        oldest = self.now - self.in_force["unbonding_delay"]
        voices = {name for name, choice, at in self.approvals if choice == numbers and at >= oldest}
        if 3 * sum(self.setters[name] for name in voices) > 2 * sum(self.setters.values()):
            self.approvals.clear()
            self.agreed = numbers, self.now + self.in_force["rules_delay"]
        return True

    def enact(self) -> bool:
        if self.agreed is None or self.now < self.agreed[1]:
            return False
        self.in_force, self.agreed = self.agreed[0], None
        return True
