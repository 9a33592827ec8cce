"""What a contract's refusal of an owner's order means for the owner: one more clause. Knows no command that is run."""

_REVERTED = "call reverted: "
ADVICE = {
    "stake: no reward": "nothing was earned since the last claim",
    "stake: more than is bonded": "`stake` shows how much is, with --account VALIDATOR of a delegation",
    "stake: nothing is bonded there": "`stake --account VALIDATOR` shows what is",
    "stake: the validator takes no more delegations": (
        "`stake --account VALIDATOR` shows for how much it has room; its owner makes more with `stake terms`"
    ),
    "stake: a validator bonds with bond_validator": "for this peer's own stake: `stake add`",
    "stake: it still secures a set": "`stake` shows when it is free, with --account VALIDATOR of a delegation",
    "stake: still unbonding": "`stake` shows when it is free, with --account VALIDATOR of a delegation",
    "stake: nothing is unbonding": "`unstake`, or `stake undelegate`, is the first step",
    "stake: still jailed": "`stake` shows for how long",
    "stake: tombstoned": "a key that signed against itself is never a validator again; begin anew with another --home",
    "stake: only the serving set admits": "`stake` shows whether this peer has a weight in this epoch",
    "delegation: the participant takes no more": (
        "`task --account PARTICIPANT` shows for how much it has room; its owner makes more with `task terms`"
    ),
    "delegation: a participant bonds with join_task": "this peer's own bond is `join --bond`",
    "delegation: nothing is bonded there": "`task --account PARTICIPANT` shows what is",
    "delegation: more than is bonded": "`task --account PARTICIPANT` shows how much is",
    "delegation: nothing is unbonding": "`task undelegate` is the first step",
    "delegation: nothing to claim": "nothing was earned since the last claim",
    "delegation: leaving, but not free yet": "`task --account PARTICIPANT` shows what of it can still be slashed",
    "delegation: withdraw what has unbonded before": "`task withdraw-delegation` is the first step",
    "delegation: still unbonding": "`task --account PARTICIPANT` shows when it is free",
    "board: nothing is unbonding": "`task leave` is the first step",
    "board: leaving, but not free yet": (
        "the running peer asks again once a round; where a task has audits, two look at its last proposal before"
    ),
    "board: guaranteed rounds are left": "it may be stopped from its last round on; `task` shows which one runs",
    "board: still unbonding": "`task` shows when it is free",
    "board: nothing to claim": "nothing was earned since the last claim",
    "board: the task has not ended": "`task` shows its round; its creator may stop it with `task stop`",
}


def explain(said: str) -> str:
    """An error's text, for a terminal."""
    head, found, reason = said.partition(_REVERTED)
    if not found:
        return said
    return f"{head}the contract refuses: {reason}" + (f"; {ADVICE[reason]}" if reason in ADVICE else "")
