"""A peer's home: its key, its network, its lock, and the local control socket."""

import errno
import os
import pwd
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio

import flock_chain.execution.executor  # noqa: F401 - raises the recursion limit, as in a running peer
from flock_chain.errors import InvalidContent, Misuse, Refused, Unavailable
from flock_chain.execution.executor import CallReverted
from flock_p2p.cli import _exit_code as exit_code
from flock_p2p.cli import main
from flock_peers import home as home_module
from flock_peers import user_folder
from flock_peers.control import BACKLOG, MAX_LINE_BYTES, encode_answer, request_control, serve_control
from flock_peers.declined import Declined
from flock_peers.home import Home, write_private
from flock_peers.user_folder import find_own_home


def test_a_new_key_is_readable_by_its_owner_only_and_comes_back(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    key = home.create_key()
    assert stat.S_IMODE(home.key_path.stat().st_mode) == 0o600
    assert Home(tmp_path / "h").load_key().account == key.account


def test_a_second_key_never_replaces_the_first(tmp_path: Path) -> None:
    home = Home(tmp_path)
    key = home.create_key()
    with pytest.raises(Misuse, match="key already"):
        home.create_key()
    assert home.load_key().account == key.account


def test_a_home_that_is_a_file_and_a_key_that_is_none_are_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "home" / "key").mkdir(parents=True)
    (tmp_path / "x").write_text("31" * 32)
    for command in (["init"], ["join", "--quiet", "--no-mdns"], ["keys", "import", "--file", str(tmp_path / "x")]):
        for home in ("file", "file/home"):
            assert main([*command, "--home", str(tmp_path / home)]) == 2
            assert "a file is in the way; name another --home" in capsys.readouterr().err
    assert main(["keys", "--home", str(tmp_path / "home")]) == 3
    assert capsys.readouterr().err == f"flock-p2p keys: {tmp_path}/home/key: Is a directory\n"
    assert not Home(tmp_path / "file").is_running()


@pytest.mark.parametrize("number", (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS))
def test_a_back_up_goes_onto_a_stick_whose_file_system_has_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(_source: Path, _target: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(home_module.os, "link", refuse)
    write_private(tmp_path / "back-up", b"whole", exclusive=True)
    with pytest.raises(FileExistsError):
        write_private(tmp_path / "back-up", b"another", exclusive=True)
    assert (tmp_path / "back-up").read_bytes() == b"whole" and len(list(tmp_path.iterdir())) == 1


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create_key()
    os.chmod(home.key_path, 0o644)
    with pytest.raises(Refused, match="chmod 600"):
        home.load_key()


def test_a_damaged_key_is_refused_and_not_shown(tmp_path: Path) -> None:
    home = Home(tmp_path)
    write_private(home.key_path, b"5ec2e7" * 4)
    with pytest.raises(Refused) as caught:
        home.load_key()
    assert "5ec2e7" not in str(caught.value)


def test_a_missing_home_says_which_command_makes_one(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="init"):
        Home(tmp_path / "none").load_key()
    with pytest.raises(Misuse, match="join"):
        Home(tmp_path / "none").load_genesis()


def test_a_copied_home_cannot_run_beside_its_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "user"
    place.mkdir(mode=0o700)
    monkeypatch.setattr(user_folder, "find_own_home", lambda: place)
    original, copy = Home(tmp_path / "original"), Home(tmp_path / "copy")
    with original.lock(), original.lock_key(b"a" * 20, b"g" * 32):
        with copy.lock(), pytest.raises(Refused, match=str(original.path)), copy.lock_key(b"a" * 20, b"g" * 32):
            pass
        with copy.lock_key(b"b" * 20, b"g" * 32), copy.lock_key(b"a" * 20, b"h" * 32):
            pass  # another key, another network
    with copy.lock_key(b"a" * 20, b"g" * 32):
        pass
    assert list((place / user_folder.IN_HOME).iterdir()) == []  # no lock stays behind


def test_a_lock_is_no_way_to_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_folder, "find_own_home", lambda: tmp_path)
    with Home(tmp_path / "a").lock_key(b"a" * 20, b"g" * 32):
        [lock] = user_folder.user_folder().iterdir()
    other = tmp_path / "other"
    other.write_text("as it was")
    lock.symlink_to(other)
    with pytest.raises(Unavailable), Home(tmp_path / "a").lock_key(b"a" * 20, b"g" * 32):
        pass
    assert other.read_text() == "as it was"


def test_a_lock_that_was_removed_between_opening_and_locking_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the peer that held it: two would hold two files of one name else."""
    monkeypatch.setattr(user_folder, "find_own_home", lambda: tmp_path)
    folder, real, removed = tmp_path / user_folder.IN_HOME, home_module.fcntl.flock, []

    def flock(handle: int, how: int) -> None:
        if not removed:
            removed.append(next(folder.iterdir()))
            removed[0].unlink()
        real(handle, how)

    monkeypatch.setattr(home_module.fcntl, "flock", flock)
    with Home(tmp_path / "a").lock_key(b"a" * 20, b"g" * 32):
        assert list(folder.iterdir()) == removed
        with pytest.raises(Refused, match="runs on this machine already"):
            Home(tmp_path / "b").lock_key(b"a" * 20, b"g" * 32).__enter__()


def test_what_another_user_could_have_put_in_the_way_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In /tmp anybody can; an account without a directory of its own has no other place."""
    monkeypatch.setattr(user_folder, "find_own_home", lambda: None)
    monkeypatch.setattr(user_folder, "COMMON", tmp_path)
    path = tmp_path / f"flock-p2p-{os.getuid()}"
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    for put in (
        lambda: path.write_text("a file"), lambda: path.symlink_to(tmp_path / "elsewhere"),
        lambda: (path.mkdir(), path.chmod(0o777)), lambda: (path.mkdir(), path.chmod(0o770)),
        lambda: (path.mkdir(), path.chmod(0o705)),
    ):  # fmt: skip
        put()
        with pytest.raises(Refused, match="another user may have put it there"):
            user_folder.user_folder()
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    assert stat.S_IMODE(user_folder.user_folder().stat().st_mode) == 0o700
    monkeypatch.setattr(os, "getuid", lambda: 12_345)  # who asks is not who owns it
    (tmp_path / "flock-p2p-12345").mkdir(mode=0o700)
    with pytest.raises(Refused, match="user 12345"):
        user_folder.user_folder()


def test_no_folder_above_the_locks_is_made_so_that_others_can_put_them_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_folder, "find_own_home", lambda: tmp_path)
    before = os.umask(0)  # a service's, for one
    try:
        path = user_folder.user_folder()
    finally:
        os.umask(before)
    assert path == tmp_path / user_folder.IN_HOME
    above = [path, *path.parents[: len(user_folder.IN_HOME.parts) - 1]]
    assert [stat.S_IMODE(part.stat().st_mode) for part in above] == [0o700] * 3


def test_a_directory_that_others_can_write_is_nobodys_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: pwd.struct_passwd(("a", "x", 1, 1, "", str(tmp_path), "/bin/sh")))
    tmp_path.chmod(0o755)
    assert find_own_home() == tmp_path
    for mode in (0o777, 0o775, 0o702):
        tmp_path.chmod(mode)
        assert find_own_home() is None
    tmp_path.chmod(0o755)
    monkeypatch.setattr(os, "getuid", lambda: 12_345)  # an account whose directory is another's
    assert find_own_home() is None


def test_only_one_process_uses_a_home(tmp_path: Path) -> None:
    with Home(tmp_path).lock():
        with pytest.raises(Unavailable, match="in use"), Home(tmp_path).lock():
            pass
        assert Home(tmp_path).is_running()
        assert (tmp_path / "lock").exists()  # that name, for a peer of an older release looks at it as well
    assert not Home(tmp_path).is_running()
    assert not Home(tmp_path / ("x" * 300)).is_running()  # where one cannot even look
    assert not Home(tmp_path / "none").is_running() and not (tmp_path / "none").exists()


def test_a_long_path_still_gets_a_socket_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_module, "user_folder", lambda: Path("/short"))
    paths = {Home(tmp_path / (f"{number:03}" * 40)).control_path for number in range(300)}
    assert len(paths) == 300 and {len(os.fsencode(path)) <= 107 for path in paths} == {True}


async def _answers(path: Path, method: str, **params: Any) -> Any:
    return await trio.to_thread.run_sync(lambda: request_control(path, method, 5.0, **params))


def test_a_control_socket_has_its_name_only_once_somebody_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, named = tmp_path / "c.sock", []
    rename = Path.rename

    def watched(self: Path, target: Path) -> Path:
        with socket.socket(socket.AF_UNIX) as early:
            early.connect(str(self))  # refused, where nobody listens yet
        named.append((target, target.exists()))
        return rename(self, target)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_control, path, {})
            assert path.is_socket()
            nursery.cancel_scope.cancel()

    monkeypatch.setattr(Path, "rename", watched)
    for left in (path, path.with_suffix(".new")):  # of peers that were killed, before the rename and after it
        with socket.socket(socket.AF_UNIX) as old:
            old.bind(str(left))
    trio.run(main)
    assert named == [(path, False)] and list(tmp_path.iterdir()) == []


def test_control_answers_its_owner_and_refuses_what_it_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks: list[int] = []
    monkeypatch.setattr(os, "umask", masks.append)

    async def echo(params: Any) -> Any:
        return params["value"]

    async def refuse(params: Any) -> Any:
        kinds = {kind.__name__: kind for kind in (Misuse, Refused, Unavailable, InvalidContent, CallReverted)}
        raise kinds[params["kind"]]("echo: no")

    async def main() -> None:
        path = tmp_path / "c.sock"
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_control, path, {"echo": echo, "refuse": refuse})
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert masks == []  # of the whole process: a folder that another thread makes then could not be entered
            assert await _answers(path, "echo", value=[1, "a"]) == [1, "a"]
            with pytest.raises(Unavailable, match="no method"):
                await _answers(path, "nothing")
            with pytest.raises(Unavailable, match="bad parameters"):
                await _answers(path, "echo")
            for kind, code in ((Misuse, 2), (Refused, 4), (Unavailable, 3), (InvalidContent, 5), (CallReverted, 2)):
                with pytest.raises(Declined, match="echo: no") as declined:
                    await _answers(path, "refuse", kind=kind.__name__)
                assert exit_code(declined.value) == code, kind  # as if the command itself had met it
            nursery.cancel_scope.cancel()
        with pytest.raises(Unavailable, match="no peer answers"):
            await _answers(path, "echo", value=1)

    trio.run(main)


def test_as_many_commands_as_are_promised_can_wait_for_a_busy_peer(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_control, path, {})
            with ExitStack() as clients:  # no await from here on: the peer's loop takes nobody in
                for _ in range(BACKLOG):
                    client = clients.enter_context(socket.socket(socket.AF_UNIX))
                    client.setblocking(False)
                    client.connect(str(path))
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_who_finds_the_queue_full_waits_for_a_place_and_is_told_where_none_comes(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    with socket.socket(socket.AF_UNIX) as peer, socket.socket(socket.AF_UNIX) as first, ThreadPoolExecutor() as pool:
        peer.bind(str(path))
        peer.listen(0)
        peer.settimeout(10)
        first.connect(str(path))  # is the queue
        with pytest.raises(Unavailable, match="is busy: more than"):
            request_control(path, "status", 0.05)
        asked = pool.submit(request_control, path, "status", 30.0)
        with pytest.raises(TimeoutError):
            asked.result(0.3)  # it waits
        peer.accept()[0].close()
        with peer.accept()[0] as other:
            assert other.recv(1 << 10).endswith(b"\n")
            other.sendall(encode_answer({"result": "here"}))
            assert asked.result(30) == "here"


def test_a_peer_that_ends_while_it_is_asked_is_said_to_have_ended(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    with socket.socket(socket.AF_UNIX) as peer, ThreadPoolExecutor() as pool:
        peer.bind(str(path))
        peer.listen(1)
        asked = pool.submit(request_control, path, "status", 30.0)
        with peer.accept()[0] as other:
            assert other.recv(1 << 10).endswith(b"\n")
        with pytest.raises(Unavailable, match=f"the peer at {tmp_path} ended before it answered"):
            asked.result(30)


def test_nobody_asks_a_socket_that_another_user_put_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(1)
        monkeypatch.setattr(os, "getuid", lambda: 12_345)
        with pytest.raises(Unavailable, match="another user's"):
            request_control(path, "status", 1.0)


@pytest.mark.parametrize(
    "line",
    [
        b'{"version": 1, "method": "echo", "params": [1]}\n',
        b'{"version": 1, "method": "fails"}\n',
        b"[" * 200_000 + b"\n",
        b'{"version": 1, "method": "odd"}\n',
        b"\xff\n",
        b'{"version": 2, "method": "echo"}\n',
        b"no line",
    ],
)
def test_no_request_ends_the_control_server(tmp_path: Path, line: bytes) -> None:
    async def fails(_params: Any) -> Any:
        raise AttributeError("a bug")

    async def odd(_params: Any) -> Any:
        return b"not JSON"

    async def echo(params: Any) -> Any:
        return params.get("value")

    async def main() -> None:
        path = tmp_path / "c.sock"
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_control, path, {"echo": echo, "fails": fails, "odd": odd})
            async with await trio.open_unix_socket(path) as stream:
                await stream.send_all(line)
                await stream.send_eof()
                with trio.fail_after(60):
                    while await stream.receive_some():
                        pass
            assert await _answers(path, "echo", value=7) == 7
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_line_without_an_end_is_not_read_for_ever(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "c.sock"
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_control, path, {})
            async with await trio.open_unix_socket(path) as stream:
                with trio.fail_after(60), pytest.raises(trio.BrokenResourceError):
                    for _ in range(64):
                        await stream.send_all(bytes(MAX_LINE_BYTES // 8))
            nursery.cancel_scope.cancel()

    trio.run(main)
