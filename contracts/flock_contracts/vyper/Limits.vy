# pragma version 0.4.3
# pragma evm-version cancun
"""
@title What a task's terms and the board's numbers may be
@notice Stores nothing, holds no coins and calls nobody; the board asks before it takes them.
@dev A contract of its own because the board's code fills what one can hold.
"""

import types


@pure
@external
def takes_terms(terms: types.Terms) -> bool:
    """
    @notice Reverts for terms with which a task could not run, or not to its end; True for all others.
    """
    assert terms.rounds > 0 and terms.rounds <= types.MAX_ROUNDS, "board: terms: rounds"
    assert terms.extra_rounds <= types.MAX_ROUNDS, "board: terms: extra_rounds"
    assert terms.proposers > 0 and terms.proposers <= types.SEATS, "board: terms: proposers"
    assert terms.voters >= types.MIN_VOTERS and terms.voters <= types.SEATS, "board: terms: voters"
    assert terms.min_participants <= types.MAX_PARTICIPANTS, "board: terms: min_participants"
    assert terms.min_bond > 0 and terms.min_bond < 2**128, "board: terms: min_bond"
    assert terms.proposer_share <= types.BPS, "board: terms: proposer_share"
    assert terms.loss_limit <= 10**9, "board: terms: loss_limit"
    assert terms.mad_multiple <= 10**6, "board: terms: mad_multiple"
    assert terms.tolerance <= 10**6, "board: terms: tolerance"
    assert terms.voting_rule <= types.RULE_PAPER, "board: terms: voting_rule"
    assert terms.rule_slash <= types.BPS, "board: terms: rule_slash"
    assert terms.rest_share <= types.BPS, "board: terms: rest_share"
    assert terms.audit_rounds <= min(terms.rounds, types.MAX_WAIT), "board: terms: audit_rounds"
    assert terms.audit_slash <= types.BPS, "board: terms: audit_slash"
    seconds: uint256[9] = [
        terms.commit_seconds,
        terms.reveal_seconds,
        terms.availability_seconds,
        terms.score_commit_seconds,
        terms.score_reveal_seconds,
        terms.tally_seconds,
        terms.adopt_seconds,
        terms.wait_seconds,
        terms.audit_seconds,
    ]
    for length: uint256 in seconds:
        assert length > 0 and length <= types.MAX_SECONDS, "board: terms: seconds"
    return True


@pure
@external
def takes_rules(rules: types.Rules) -> bool:
    """
    @notice Reverts for numbers that would stop the board, or keep a bond for ever; True for all others.
    """
    assert rules.seed_delay > 0, "board: a seed must be unknown when its height is fixed"
    assert max(rules.seed_delay, rules.phase_min_blocks) <= types.MAX_WAIT, "board: blocks that nobody waits for"
    assert rules.bond_unlock_rounds <= types.MAX_WAIT, "board: rounds that nobody waits for"
    assert max(rules.unbonding_delay, rules.rules_delay) <= types.MAX_DELAY, "board: a bond that never comes back"
    slashes: uint256[4] = [
        rules.invalid_bytes_slash, rules.norm_slash, rules.missed_reveal_slash, rules.seat_absence_slash
    ]
    for slash: uint256 in slashes:
        assert slash <= types.BPS, "board: a slash above the whole bond"
    assert rules.seat_absence_limit > 0, "board: nobody would be seated twice"
    assert rules.task_fee < 2**128, "board: a fee that nobody can pay"
    return True
