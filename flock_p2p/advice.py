"""What a contract's refusal of an owner's order means for the owner: one more clause. Knows no command that is run."""

_REVERTED = "call reverted: "
TERMS = {  # what the contract takes for each: the least and the most
    "rounds": (1, 100_000), "extra_rounds": (0, 100_000), "proposers": (1, 16), "voters": (3, 16),
    "min_participants": (0, 64), "min_bond": (1, 2**128 - 1), "proposer_share": (0, 10_000), "loss_limit": (0, 10**9),
    "mad_multiple": (0, 10**6), "tolerance": (0, 10**6), "voting_rule": (0, 1), "rule_slash": (0, 10_000),
    "rest_share": (0, 10_000), "audit_slash": (0, 10_000),
}  # fmt: skip
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
    "board: no participant": "this account has no bond in that task; `task list` shows all, and --task names one",
    "board: nothing is unbonding": "`task leave` is the first step",
    "board: leaving, but not free yet": (
        "the running peer asks again once a round, and none begins while the task waits for participants; where a task "
        "has audits, two look at its last proposal before"
    ),
    "board: guaranteed rounds are left": "it may be stopped from its last round on; `task` shows which one runs",
    "board: still unbonding": "`task` shows when it is free",
    "board: nothing to claim": "nothing was earned since the last claim",
    "board: the task has not ended": "`task` shows its round; its creator may stop it with `task stop`",
    "board: terms: audit_rounds": "from 0 to the number of rounds, and to 64 at most",
    "board: terms: seconds": "each of its lengths of time is from 1 to 31536000",
} | {f"board: terms: {name}": f"it is from {least} to {most}" for name, (least, most) in TERMS.items()}


def explain(said: str) -> str:
    """An error's text, for a terminal."""
    head, found, reason = said.partition(_REVERTED)
    if not found:
        return said
    return f"{head}the contract refuses: {reason}" + (f"; {ADVICE[reason]}" if reason in ADVICE else "")
