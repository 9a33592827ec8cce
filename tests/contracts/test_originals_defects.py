"""What the published contracts and clients that this network follows got wrong: a test each, named after the defect."""

import argparse
import ast
import json
import pickle
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from board_support import ADAPTER, BOND, CREATOR, FEE, NEW_ADAPTER, POT, Game, manifest_of, padded, salt_of
from contracts_support import CHAIN_ID, COMMIT, ENDED, PARAMETERS, REVEAL, SCORE_REVEAL, account

from flock_chain.aggregation import Format, Layout, apply, encode_global, from_floats, parse_delta, quantise
from flock_chain.crypto import Account, Key, keccak256
from flock_chain.errors import InvalidContent, InvalidEncoding, Misuse
from flock_chain.paper_rule import is_acceptable
from flock_chain.proposal import Manifest, compute_proposal_commitment, decode_manifest
from flock_chain.tally import Verdict
from flock_contracts.addresses import BOARD
from flock_contracts.draw import draw
from flock_p2p.cli import build_parser
from flock_peers.training.base_check import check_base_folder
from flock_peers.training.rows import Row, split_rows

SCORES = [[-300, -200, -100], [-301, -199, -101], [-290, -210, -99]]
LAYOUT, FORMAT = Layout.of({"w": (40,)}), Format()


def members(game: Game) -> list[bytes]:
    return [row["account"] for row in game.world.board("participants", game.task)]


def claim_all(game: Game, round: int) -> int:
    """What everybody of a round gets out, by really taking it."""
    result, paid = game.result(round), 0
    for who in (*result["proposers"], *result["voters"]):
        before = game.world.balance(who)
        if game.send(who, "claim", round).ok:
            paid += game.world.balance(who) - before
    return paid


@pytest.mark.parametrize("rounds", [2, 5])
def test_the_pot_is_solvent_when_every_round_pays_and_everybody_claims_at_the_end(rounds: int) -> None:
    """Theirs paid pool / rounds left without taking it from the pool, so the last claims found it empty."""
    game = Game(rounds=rounds, extra_rounds=0)
    for _ in range(rounds):
        game.play_round()
        game.check_solvent()
    assert game.phase == ENDED
    paid = [claim_all(game, round) for round in range(1, rounds + 1)]
    assert min(paid) > 0 and max(paid) - min(paid) <= 12  # equal rounds get equal shares, but for what does not divide
    left = game.world.board("task_view", game.task)["pot"]
    assert sum(paid) + left == POT
    game.must(CREATOR, "withdraw_pot") if left else None
    for who in members(game):
        game.must(who, "leave_task")
    game.world.blocks(8, 90)
    for index in range(1, 7):
        game.must(account(index), "withdraw_bond")
    assert game.world.balance(BOARD) == game.world.board("burned") == FEE


def test_a_slash_moves_exactly_what_it_takes_so_that_no_token_vanishes() -> None:
    """Theirs lowered the balance first and then moved a part of the lowered balance."""
    game = Game()
    game.play_to_tally(SCORES, [[3, 0, 0]] * 3)
    before = {who: game.bond_of(who) for who in members(game)}
    held, burned = game.world.balance(BOARD), game.world.board("burned")
    game.tally()
    game.convict(1, 0)
    taken = sum(before[who] - game.bond_of(who) for who in before)
    assert taken == BOND * PARAMETERS["norm_slash"] // 10_000 > 0
    assert game.world.board("burned") - burned == taken
    assert game.world.balance(BOARD) == held == game.world.board("liabilities")


def test_a_tie_of_votes_rewards_nobody_and_accepts_nothing() -> None:
    """Theirs counted a sum of zero as accepted and found both sides in the majority."""
    game = Game(7, proposers=3, voters=4, voting_rule=1, rule_slash=2_000)
    round = game.play_votes([NEW_ADAPTER, NEW_ADAPTER, ADAPTER, ADAPTER])
    assert claim_all(game, round) == 0 and game.result(round)["adapter_after"] == ADAPTER
    assert set(game.result(round)["verdicts"]) == {Verdict.VOID}
    scored = Game(7, proposers=3, voters=4)
    scored.play_to_tally([*SCORES, [-300, -200, -100]])
    scored.tally()
    for who, choice in zip(scored.voters, [NEW_ADAPTER, NEW_ADAPTER, ADAPTER, ADAPTER]):
        scored.must(who, "attest_adoption", 1, choice)
    scored.world.next_block()
    assert scored.result(1)["adapter_after"] == ADAPTER


def test_an_honest_proposer_is_not_slashed_with_the_guilty_of_its_round() -> None:
    """Theirs slashes all proposers of a rejected aggregate; ours judges each proposal; a rejection costs nothing."""
    game = Game()
    game.play_to_tally([[-300, 25_000, -100]] * 3, [[0, 0, 3]] * 3)
    game.tally()
    assert game.result(1)["verdicts"] == [Verdict.ACCEPTED, Verdict.REJECTED_LOSS, Verdict.ACCUSED_NORM]
    honest, rejected, guilty = game.result(1)["proposers"]
    game.convict(1, 2)
    assert game.bond_of(honest) == game.bond_of(rejected) == BOND > game.bond_of(guilty)
    theirs = Game(voting_rule=1, rule_slash=2_000)
    round = theirs.play_votes([ADAPTER] * 3)
    assert all(theirs.bond_of(who) < BOND for who in theirs.result(round)["proposers"])  # the difference


def test_a_tolerance_with_a_negative_metric_demands_no_improvement() -> None:
    """Theirs asked new >= (1 - eps) old: of a score of -2 that is -1.9, so what stayed the same was rejected."""
    before = -2_000_000
    assert not before >= (1 - 0.05) * before  # the defect
    assert is_acceptable(before, before, tolerance=50_000, rises=True)
    assert is_acceptable(before, before - 100_000, tolerance=50_000, rises=True)
    assert not is_acceptable(before, before - 100_001, tolerance=50_000, rises=True)


def test_the_sign_of_the_metric_is_said_so_that_a_falling_loss_is_better_and_a_rising_one_worse() -> None:
    """Theirs compared losses as if they were scores. On chain, a negative change is the better one."""
    assert is_acceptable(2_000_000, 1_000_000, tolerance=0, rises=False)
    assert not is_acceptable(2_000_000, 2_000_001, tolerance=0, rises=False)
    assert not is_acceptable(2_000_000, 1_000_000, tolerance=0, rises=True)
    game = Game()
    game.play_to_tally([[-900_000, 900_000, -100]] * 3)
    game.tally()
    assert game.result(1)["verdicts"] == [Verdict.ACCEPTED, Verdict.REJECTED_LOSS, Verdict.ACCEPTED]


def test_the_split_of_a_round_s_pay_is_set_once_and_the_same_at_every_call() -> None:
    """Theirs drew proposers' and voters' shares anew from a random number at every call."""
    game = Game()
    round = game.play_round()
    result = game.result(round)
    split = (result["share"] * game.terms["proposer_share"] // 10_000) // 3
    assert result["per_proposer"] == split
    owed = [game.world.board("claimable", game.task, round, who) for who in result["proposers"]]
    for _ in range(3):
        game.world.blocks(2, 7)  # other heights, times and mixes
        assert [game.world.board("claimable", game.task, round, who) for who in result["proposers"]] == owed
    game.must(result["proposers"][0], "claim", round)
    assert [game.world.board("claimable", game.task, round, who) for who in result["proposers"]] == [0, *owed[1:]]
    assert owed == [split] * 3


def test_the_split_of_a_peer_s_rows_is_drawn_once_and_the_same_at_every_call(tmp_path: Path) -> None:
    """Where it is drawn anew at every call, whoever measures soon measures on what it has trained on."""
    rows = [Row("", f"row {index}") for index in range(100)]
    first = split_rows(rows, tmp_path / "split.json")
    for _ in range(3):
        assert split_rows(rows, tmp_path / "split.json") == first
    assert not {*first.train} & {*first.hold_out} and len({*first.train, *first.hold_out}) == 100
    assert split_rows(rows, tmp_path / "another.json") != first, "else nothing was drawn"


def test_what_a_proposer_says_of_its_data_weighs_nothing() -> None:
    """Theirs averaged by sample counts that each client declared about itself."""
    rows = [np.linspace(-1, 1, 40, dtype=np.float32) * 0.01 * (index + 1) for index in range(3)]
    deltas = [quantise(row, LAYOUT, FORMAT) for row in rows]
    start = from_floats(np.zeros(40, dtype=np.float32), LAYOUT, FORMAT)
    key = Key(keccak256(b"boaster"))
    said = [
        Manifest(
            chain=keccak256(b"chain"), task=1, round=1, account=Account(key.account), parent=keccak256(b"p"),
            delta=keccak256(b"d"), delta_bytes=1, steps=1, tokens=tokens,
        ).encode()
        for tokens in (1, 10**9)
    ]  # fmt: skip
    assert [decode_manifest(data).tokens for data in said] == [1, 10**9]
    data = encode_global(apply(start, deltas))  # no argument for what anybody said
    assert data == encode_global(apply(start, list(reversed(deltas))))
    game = Game()
    game.join(members(game)[0], 50 * BOND)  # nor does stake weigh again after the draw
    game.play_round()
    result = game.result(1)
    assert {game.world.board("claimable", game.task, 1, who) for who in result["proposers"]} == {result["per_proposer"]}


def test_no_caller_can_choose_the_seed_of_the_roles() -> None:
    """Theirs took the seed from the transaction that asked for the roles."""
    games = [Game() for _ in range(3)]
    for game, caller in zip(games, (CREATOR, account(1), None)):
        while game.phase != COMMIT:
            due = game.world.next_block(pokes=caller is None)
            if caller is not None and game.task in game.world.board("due_tasks"):
                game.must(caller, "poke")
            assert game.world.height < 50 and due is not None
    assert len({tuple(game.proposers) for game in games}) == 1
    game = games[0]
    seed = game.world.view("Beacon", "mix", game.view["seed_height"])
    rows = members(game)
    assert game.proposers == [rows[index] for index in draw(seed, [BOND] * len(rows), 3)]
    functions = [entry for entry in game.world.contracts["TaskBoard"].abi if entry["type"] == "function"]
    taken = {entry["name"]: [field["name"] for field in entry["inputs"]] for entry in functions}
    assert taken["poke"] == ["task"] and not any("seed" in fields for fields in taken.values())


def test_a_vote_or_a_proposal_that_is_copied_opens_for_its_author_alone() -> None:
    """Theirs were in the open, or bound to nobody: the last voter copied the majority and was paid."""
    game = Game()
    game.until(COMMIT)
    author, thief, _ = game.proposers
    game.commit(author)
    digest = _commitment_of(game, author)
    game.must(thief, "commit", 1, digest)
    game.world.blocks(3, 10)
    game.until(REVEAL)
    game.reveal(author)
    copied = game.send(thief, "reveal", 1, manifest_of(author, 1), salt_of(author, 1))
    assert copied.reason == "board: does not open the commitment"
    scored = Game()
    scored.play_to_scores()
    honest, copier, last = scored.voters
    sealed = scored.commit_scores(honest, SCORES[0])
    commitment = next(values["commitment"] for name, values in sealed.logs if name == "ScoresCommitted")
    scored.must(copier, "commit_scores", 1, commitment)
    scored.commit_scores(last, SCORES[2])
    scored.until(SCORE_REVEAL)
    scored.reveal_scores(honest, SCORES[0])
    sheet = (padded(SCORES[0]), padded([]), salt_of(honest, 1))
    assert scored.send(copier, "reveal_scores", 1, *sheet).reason == "board: does not open the commitment"


def _commitment_of(game: Game, who: bytes) -> bytes:
    return compute_proposal_commitment(CHAIN_ID, BOARD, game.task, 1, who, manifest_of(who, 1), salt_of(who, 1))


class Bomb:
    """Unpickled, it runs."""

    fired = False

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (_fire, ())


def _fire() -> None:
    Bomb.fired = True


def test_a_pickle_from_a_stranger_is_refused_and_never_run() -> None:
    """Theirs loaded strangers' weights with pickle, and their models with their own code."""
    data = pickle.dumps({"w": Bomb()})
    for refused in (data, len(data).to_bytes(8, "little") + data, b"PK\x03\x04" + data):
        with pytest.raises(InvalidContent):
            parse_delta(refused, LAYOUT, FORMAT)
    with pytest.raises(InvalidEncoding):
        decode_manifest(data)
    assert not Bomb.fired
    pickle.loads(data)  # noqa: S301 the bomb is live
    assert Bomb.fired
    Bomb.fired = False


@pytest.mark.parametrize(
    ("config", "weights", "words"),
    [
        ({"auto_map": {"AutoModelForCausalLM": "code.Model"}}, "model.safetensors", "code of its own .* never run"),
        ({}, "pytorch_model.bin", "weights are pickled, which is never loaded"),
    ],
)
def test_a_model_with_code_of_its_own_or_pickled_weights_is_refused_and_nothing_of_it_run(
    tmp_path: Path, config: dict[str, object], weights: str, words: str
) -> None:
    """Theirs ran whatever code came with a model (`trust_remote_code`)."""
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["XForCausalLM"]} | config))
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "code.py").write_text("raise SystemExit('it ran')")
    (tmp_path / weights).write_bytes(pickle.dumps({"w": Bomb()}))
    with pytest.raises(Misuse, match=words):
        check_base_folder(tmp_path)
    assert not Bomb.fired


def test_no_library_that_loads_models_is_let_run_their_code() -> None:
    loads = [call for call in _calls("flock_peers.training") if _name(call.func).startswith("Auto")]
    assert len(loads) >= 6, "of configurations, tokenizers and models"
    for call in loads:
        said = {one.arg: ast.unparse(one.value) for one in call.keywords}
        assert said.get("trust_remote_code") == "False", ast.unparse(call)


def _calls(package: str) -> list[ast.Call]:
    """Of whatever reads a model."""
    files = [file for file in resources.files(package).iterdir() if file.name.endswith(".py")]
    texts = [text for text in (file.read_text("utf-8") for file in files) if "Auto" in text]
    nodes = [node for text in texts for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    return [node for node in nodes if _name(node.func).endswith((".from_pretrained", ".from_config"))]


def _name(func: ast.expr) -> str:
    return ast.unparse(func)


def test_no_command_takes_a_key_as_an_argument() -> None:
    """Theirs read the private key from the command line, where every process of the machine can see it."""
    commands = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    options = {
        name
        for parser in _walk(commands)
        for action in parser._actions
        for name in (*action.option_strings, action.dest)
    }
    assert "--home" in options and "--bond" in options  # the walk sees what there is
    words = ("key", "secret", "mnemonic", "password", "passphrase")
    assert {name for name in options if any(word in name for word in words)} == {"--passphrase-fd", "passphrase_fd"}


def _walk(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> list[argparse.ArgumentParser]:
    found = []
    for parser in commands.choices.values():
        found.append(parser)
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                found += _walk(action)
    return found
