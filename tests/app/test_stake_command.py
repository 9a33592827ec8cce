"""`stake` and `status` as their user sees them, against a control socket that answers what a peer would."""

import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from execution_support import make_genesis

from flock_p2p.cli import EXIT_PIPE_CLOSED, main
from flock_p2p.commands.stake import format_delegation, format_stake
from flock_p2p.commands.status import format_status
from flock_p2p.commands.task import format_list, tell_giving
from flock_peers.base_giver import Giving
from flock_peers.control import serve_control
from flock_peers.home import Home

COIN = 10**18
ROW = {
    "account": "0x" + "11" * 20, "stake": str(32 * COIN), "serving_weight": "0", "next_weight": "0",
    "granted_weight": str(32 * COIN), "open_staking": False, "unbonding": "0", "release_at": None, "jailed_until": 0,
    "tombstoned_at": 0, "reward": str(COIN + COIN // 2), "missed": 3, "chain_time": 100, "epoch": 4, "first_height": 9,
    "validators": 5, "under_way": False, "delegated": "0", "seat_stake": str(32 * COIN),
}  # fmt: skip


@contextmanager
def answering(home: Home, looks: int = 0) -> Iterator[list[dict[str, Any]]]:
    """A control socket; an order is under way for so many looks."""
    asked: list[dict[str, Any]] = []
    ready, tokens = threading.Event(), list[trio.lowlevel.TrioToken]()
    scope = trio.CancelScope()

    async def stake(params: Any) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        asked.append(dict(params))
        seen = sum(row["action"] == "status" for row in asked)
        return {**ROW, "under_way": seen <= looks} if params["action"] == "status" else {"sent": True}

    async def serve() -> None:
        tokens.append(trio.lowlevel.current_trio_token())
        with scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(serve_control, home.control_path, {"stake": stake})
                ready.set()

    home.path.mkdir(parents=True)
    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert ready.wait(10)
    try:
        yield asked
    finally:
        tokens[0].run_sync_soon(scope.cancel)
        thread.join(10)


def test_an_order_says_whether_it_is_final_and_shows_what_it_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(tmp_path / "home")
    with answering(home, looks=1) as asked:
        assert main(["stake", "settle", "--home", str(home.path), "--account", "22" * 20]) == 0
        out = capsys.readouterr().out
        assert out.startswith("sent; it is final\n") and "reward     1.5 coins" in out
        assert asked[0] == {"action": "settle", "account": "0x" + "22" * 20} and len(asked) == 3
        asked.clear()
        assert main(["stake", "add", "--home", str(home.path), "--amount", "2.5", "--wait", "0", "--json"]) == 0
        said = capsys.readouterr()
        assert asked[0]["amount"] == str(5 * COIN // 2) and json.loads(said.out)["epoch"] == 4  # nothing but the object
    home = Home(tmp_path / "halted")
    with answering(home, looks=99):
        assert main(["stake", "unjail", "--home", str(home.path), "--wait", "0"]) == 0
    assert capsys.readouterr().out.startswith("sent; not final yet")


def test_a_stake_below_a_seats_says_until_when_the_seat_lasts_what_goes_with_it_and_how_it_comes_back() -> None:
    """`unstake` took the seat of who left a coin too little, and told nothing but the amounts."""
    served = ROW | {"serving_weight": str(37 * COIN), "next_weight": str(37 * COIN), "delegated": str(5 * COIN)}
    short = served | {"stake": str(8 * COIN), "unbonding": str(24 * COIN)}
    told = format_stake(short)
    assert "\nseat       until epoch 5 ends, at the earliest: it takes 32 coins of the account's own, 24 more" in told
    assert "no vote on blocks, admissions or rules, and no tips; 5 coins of others weigh nothing" in told
    assert "\nback       `stake add --amount 24` before epoch 4 ends keeps it; after that it comes back two" in told
    assert "with other coins than those that unbond" in told
    assert "seat       until epoch 4 ends: it takes" in format_stake(short | {"next_weight": "0"})
    gone = format_stake(short | {"serving_weight": "0", "next_weight": "0", "unbonding": "0", "delegated": "0"})
    assert "seat       none: it takes" in gone and "of others" not in gone
    assert "\nback       `stake add --amount 24` gives it back two epochs later\n" in gone
    assert "`stake add --amount 32`" in format_stake(short | {"stake": "0"})  # it leaves, and serves until then
    jailed = format_stake(short | {"jailed_until": 160})
    assert ", with other coins than those that unbond, once `stake unjail` has ended its jail\n" in jailed
    expelled = format_stake(short | {"granted_weight": str(31 * COIN)})
    assert "`stake unjail`" not in expelled and ", once two thirds of the set grant that weight\n" in expelled
    assert "once" not in told and "once" not in format_stake(short | {"granted_weight": "0", "open_staking": True})
    has_one, never_had, convicted = served, ROW | {"stake": "0"}, short | {"stake": "0", "tombstoned_at": 7}
    for row in (has_one, never_had, convicted, {k: v for k, v in short.items() if k != "seat_stake"}):
        assert "\nseat  " not in format_stake(row)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("add",), "add needs --amount"),
        (("admit", "--amount", "5"), "admit needs --account"),
        (("settle",), "settle needs --account"),
        (("delegate", "--amount", "5"), "delegate needs --account"),
        (("terms", "--amount", "5"), "terms needs --commission"),
        (("add", "--amount", "5", "--commission", "5"), "add takes no --commission"),
        (("settle", "--account", "zz"), "'zz' is no account"),
        (("unjail", "--amount", "5"), "unjail takes no --amount"),
        (("remove", "--amount", "5", "--account", "22" * 20), "remove takes no --account"),
    ],
)
def test_a_wrong_order_is_refused_before_anybody_is_asked(
    arguments: tuple[str, ...], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stake", *arguments, "--home", str(tmp_path)]) == 2
    assert word in capsys.readouterr().err


def test_output_that_nobody_reads_is_no_error_of_the_program(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom flock_p2p.cli import main\nsys.stdin.read()\nsys.exit(main(['init', '--home', sys.argv[1]]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "home")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == EXIT_PIPE_CLOSED


STATUS: dict[str, Any] = {
    "account": "0x11", "address": "/ip4/...", "network": "n", "genesis": "ab", "height": 7, "state_root": "cd" * 32,
    "block": "ef" * 32, "peers": [], "balance": "0", "is_validator": True, "finality_seconds": {"p50": None},
    "sync": None, "task": None, "training": {}, "not_signing": "", "stops_before": None, "validators": 12,
    "away": [], "has_quorum": True, "is_silent": False, "transfers": [], "base_model": None, "not_joined": {},
    "disk": {"quota": 8 << 30, "used": 10**9, "kept": {"task-1": 10**9}},
}  # fmt: skip


def test_a_chain_that_stands_still_for_want_of_a_quorum_names_who_is_away() -> None:
    away = ["0x" + f"{n:02x}" * 20 for n in range(9)]
    halted = {**STATUS, "away": away, "has_quorum": False, "is_silent": True}
    text = format_status(halted)
    assert f"no quorum: {away[0]}" in text and "and 1 more" in text and away[8] not in text and "restart" in text
    for part in ({"is_silent": False}, {"has_quorum": True}):  # a busy chain, or one that only waits
        assert "warning" not in format_status({**halted, **part})


def test_a_status_says_what_the_account_has_bonded_and_earned_and_adds_no_coin() -> None:
    task = {"task": 4, "round": 2, "rounds": 3, "phase": "COMMIT", "is_ended": False, "awaited": [], "joined": True,
            "bonds": {"0x11": str(5 * 10**18)}}  # fmt: skip
    pay = {"task": 4, "round": 1, "amount": str(10**18 // 3), "total": str(10**18 // 3)}
    status = {**STATUS, "balance": str(10**21 - 1), "task": {**task, "pay": None}}
    assert "balance  999.999999999999999999 coins\n" in format_status(status)
    assert format_status(status).endswith("bonded   5 coins") and "earned" not in format_status(status)
    why = {"skipped": {"task": 1, "round": 2, "why": "privacy: the limit is 5.00"}, "awaited": [STATUS["account"]]}
    told = format_status({**status, "task": {**task, **why, "pay": None, "round": 2, "phase": "COMMIT"}})
    assert "awaited  this peer, which skips this round\n" in told
    assert "skipped  round 2: privacy: the limit is 5.00" in told
    told = format_status({**status, "task": {**task, **why, "pay": None, "round": 3, "phase": "COMMIT"}})
    assert "awaited  this peer\n" in told and "skipped  round 2: privacy: the limit is 5.00" in told
    leaving = format_status(status | {"task": status["task"] | {"is_leaving": True}})
    assert "bonded   5 coins; leaving: drawn no more, and the bond unbonds by itself" in leaving
    ended = format_status(status | {"task": status["task"] | {"is_ended": True}})
    assert "bonded   5 coins; the task has ended: `task leave` begins to take it back" in ended
    told = format_status({**status, "task": {**task, "bonds": {}, "pay": pay}})
    for training, words in (({"state": "loading"}, "opens the base model"), ({"state": "ready"}, "ready; has trained"),
                            ({"state": "failed"}, "none: it could not be opened"),
                            ({"step": 2, "steps": 8, "loss": 1.5}, "step 2 of 8, loss 1.5000")):  # fmt: skip
        assert f"trainer  {words}" in format_status({**status, "training": training})
    third = "0.333333333333333333"
    assert "bonded   no\n" in told and f"earned   {third} coins, of that {third} in round 1" in told


def test_a_status_says_what_is_left_in_every_task_that_has_ended_and_which_order_fetches_it() -> None:
    none = {"bond": "0", "unbonding": "0", "free_in": 0, "claimable": "0", "pot": "0"}
    rows = [
        {**none, "task": 9, "bond": str(5 * COIN), "claimable": str(COIN)},
        {**none, "task": 7, "unbonding": str(COIN), "free_in": 40},
        {**none, "task": 3, "unbonding": str(COIN // 2)},
        {**none, "task": 2, "pot": str(28 * COIN)},
    ]
    told = format_status({**STATUS, "other_task": None, "left_behind": rows})
    lines = [line for line in told.splitlines() if line.startswith("left ")]
    assert lines == [
        "left     in task 9, which has ended: 5 coins bonded, which `task leave --task 9` begins to take back; 1 coin "
        "earned and not claimed, which `task claim --task 9` pays out",
        "left     in task 7, which has ended: 1 coin unbonding, which `task withdraw --task 7` pays out in 40 s of "
        "chain time",
        "left     in task 3, which has ended: 0.5 coins unbonding, which `task withdraw --task 3` pays out now",
        "left     in task 2, which has ended: 28 coins of its pot, which `task pot --task 2` takes back",
    ]
    shown = {"task": 9, "round": 2, "rounds": 2, "phase": "ENDED", "is_ended": True, "awaited": [], "joined": True,
             "bonds": {"0x11": str(5 * COIN)}, "pay": None}  # fmt: skip
    told = format_status({**STATUS, "task": shown, "left_behind": rows})
    assert "in task 9" not in told and "in task 7" in told and "bonded   5 coins; the task has ended" in told
    many = [{**rows[0], "task": 100 - number} for number in range(12)]
    told = format_status({**STATUS, "other_task": None, "left_behind": many})
    assert "in task 93," in told and "in task 92," not in told and "left     and in 4 older tasks (--json" in told


def test_a_round_beyond_the_guaranteed_ones_is_said_to_be_one() -> None:
    """Not round 5 of 3."""
    row = {"task": 4, "round": 5, "rounds": 3, "phase": "COMMIT", "is_ended": False, "count": 4}
    pay = {"task": 4, "round": 5, "amount": "0", "total": str(COIN)}
    told = format_status({**STATUS, "other_task": row | {"pay": pay}})
    assert "task 4 is in extra round 2 after 3, COMMIT" in told and "earned   1 coin, of that 0 in round 5" in told
    assert "bonded" not in told
    told = format_status({**STATUS, "other_task": row | {"pay": None, "bond": str(5 * COIN)}})
    assert "\nbonded   5 coins in task 4, in which this peer takes no part now: seats that stay empty" in told
    assert "`task leave --task 4`" in told
    own = row | {"awaited": [], "joined": True, "bonds": {}}
    assert "4, extra round 2 after 3, COMMIT" in format_status({**STATUS, "task": own})
    listed = row | {"pot": "0", "min_bond": "0", "participants": 3, "creator": "0x11"}
    assert "  extra round 2 after 3  " in format_list({"tasks": [listed], "count": 1})


@pytest.mark.parametrize(
    "arguments",
    [
        ("protection", "export", "--file", "x"),
        ("restart", "propose", "--document", "x"),
        ("keys", "lock"),
        ("keys", "unlock"),
    ],
)
def test_a_mistyped_home_is_not_made(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--home", str(tmp_path / "typo")]) == 2
    assert not (tmp_path / "typo").exists() and "flock_p2p" in capsys.readouterr().err


def test_an_export_never_replaces_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = Home(tmp_path / "home")
    key = home.create_key()
    home.store_genesis(make_genesis().encode())
    (home.folder("consensus") / "signer.log").touch()
    assert main(["protection", "export", "--file", str(home.key_path), "--home", str(home.path)]) == 2
    assert "name a new file" in capsys.readouterr().err
    assert home.load_key().secret == key.secret and not list(home.path.glob("*.part"))
    assert main(["protection", "export", "--file", str(tmp_path / "new"), "--home", str(home.path)]) == 0
    capsys.readouterr()
    told = {"file": str(tmp_path / "other"), "account": "0x" + key.account.hex()}
    assert main(["protection", "export", "--file", told["file"], "--home", str(home.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == told
    assert main(["protection", "import", "--file", told["file"], "--home", str(home.path), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["account"] == told["account"] and row["is_of_a_network"] and not row["is_contradiction"]


DELEGATION = {
    "validator": "0x" + "ab" * 20, "stake": str(3 * COIN), "leaving": str(2 * COIN), "release_at": 130,
    "reward": "0", "commission": 500, "next_commission": 500, "next_commission_at": 0, "room": str(45 * COIN),
}  # fmt: skip


def test_a_delegation_is_shown_with_the_validators_terms() -> None:
    lines = "\n".join(format_delegation(DELEGATION, 100))
    assert "3 coins, 2 more leaving" in lines and "5.00 %" in lines and "in 30 s" in lines
    assert "from then" not in lines
    third = "\n".join(format_delegation(DELEGATION | {"stake": str(COIN // 3), "reward": "1"}, 100))
    assert ": 0.333333333333333333 coins, 2 more leaving, 0.000000000000000001 earned" in third, "to the last wei"
    change = DELEGATION | {"next_commission": 900, "next_commission_at": 160, "release_at": None}
    lines = "\n".join(format_delegation(change, 100))
    assert "9.00 %, in 60 s" in lines and "when it secures no set any more" in lines
    assert lines in format_stake(ROW | {"delegation": change})
    own = format_stake(ROW | {"delegation": DELEGATION | {"validator": ROW["account"]}})
    assert "own terms  keeps 5.00 %" in own and "with  " not in own
    assert "of others" in format_stake(ROW | {"delegated": str(COIN)}) and "of others" not in format_stake(ROW)


def test_when_unbonding_stake_is_free_is_said_in_chain_time_or_by_what_has_to_pass_first() -> None:
    leaving = ROW | {"unbonding": str(2 * COIN)}
    assert "\nwithdraw   when it secures no set any more\n" in format_stake(leaving)
    assert "\nwithdraw   in 20 s of chain time\n" in format_stake(leaving | {"release_at": 120})


def test_an_order_about_a_delegation_shows_what_is_bonded_there(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with answering(home) as asked:
        where = ["--home", str(home.path), "--account", "22" * 20]
        assert main(["stake", "delegate", *where, "--amount", "5"]) == 0
        assert asked[-1] == {"action": "status", "account": "0x" + "22" * 20}
        assert main(["stake", *where]) == 0 and asked[-1] == {"action": "status", "account": "0x" + "22" * 20}
        assert main(["stake", "terms", *where[:2], "--amount", "5", "--commission", "300"]) == 0
        assert {"action": "terms", "amount": str(5 * COIN), "commission": 300} in asked
        assert asked[-1] == {"action": "status", "account": ROW["account"]}  # its own, so that they are shown


def test_orders_that_people_look_for_by_their_own_names_are_those_of_stake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, whom = Home(tmp_path / "home"), {"account": "0x" + "22" * 20}
    with answering(home) as asked:
        both = ("--account", "22" * 20, "--amount", "5")
        for command, order in (
            (("unstake", "--amount", "5"), {"action": "remove", "amount": str(5 * COIN)}),
            (("delegate", *both), {"action": "delegate", "amount": str(5 * COIN)} | whom),
            (("claim",), {"action": "claim"}),
            (("claim", "--account", "22" * 20), {"action": "claim-delegation"} | whom),
            (("stake", "claim", "--account", "22" * 20), {"action": "claim-delegation"} | whom),
        ):  # fmt: skip
            asked.clear()
            assert main([*command, "--home", str(home.path), "--json"]) == 0
            said = capsys.readouterr()
            assert [row for row in asked if row["action"] != "status"] == [order]
            assert json.loads(said.out)["epoch"] == 4 and "it is final" in said.err
            assert ("and paid 1.5 coins" in said.err) == ("claim" in command)


def test_what_a_strangers_model_says_of_itself_does_not_command_the_terminal() -> None:
    text = format_status({**STATUS, "other_task": None, "not_joined": {"7": "is no model of type \x1b[2J\x07"}})
    assert "not in   task 7 is no model of type ?[2J?\n" in text


def test_status_and_task_create_say_how_far_a_base_model_is_that_is_published() -> None:
    giving = Giving(Path("/models/70b"), bytes=141_000_000_000, read=47_000_000_000)
    text = format_status({**STATUS, "other_task": None, "publishing": giving.describe()})
    assert "publish  base model /models/70b: 47000 of 141000 MB read\n" in text
    pipe, told = io.StringIO(), ""
    for read, done in ((1, 0), (141_000_000_000, 0), (141_000_000_000, 5)):
        told = tell_giving(replace(giving, read=read, done=done).as_row(), told, pipe)
    assert pipe.getvalue().splitlines() == [
        "base       reading 141000 MB of /models/70b", "base       storing 141000 MB of /models/70b",
    ]  # fmt: skip
