"""A home's format: old homes migrate or say why not, newer ones are refused by name, a crash in between is mended."""

import tarfile
from pathlib import Path

import pytest

from flock_chain.consensus.digest import ChainDomain
from flock_chain.consensus.records import decode_wal_record
from flock_chain.errors import InvalidEncoding, Refused
from flock_chain.execution import records
from flock_chain.genesis import decode_genesis
from flock_p2p.cli import EXIT_REFUSED, main
from flock_p2p.config import load_config
from flock_peers.home import Home, write_private
from flock_peers.home_format import (
    HOME_FORMAT,
    MIGRATIONS,
    VERSION_FILE,
    bring_up_to_date,
    decode_version,
    encode_version,
    migrate_0,
)
from flock_peers.roles.secrets import RoundSecrets
from flock_peers.store.blob_reader import BlobReader
from flock_peers.store.chain_store import ChainStore
from flock_peers.store.record_log import open_record_log
from flock_peers.store.signer_file import open_signer_file

FIXTURE = Path(__file__).parents[1] / "golden" / "home-0.tar.xz"  # of a validator that had made three blocks
OF_A_NETWORK = ("genesis.json", "chain", "consensus", "blobs", "rounds")


@pytest.fixture
def old(tmp_path: Path) -> Home:
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(tmp_path / "home", filter="data")
    return Home(tmp_path / "home")


def read_all(home: Home) -> dict[str, bytes]:
    return {str(path.relative_to(home.path)): path.read_bytes() for path in home.path.rglob("*") if path.is_file()}


def leave_network(home: Home) -> None:
    """What the refusal advises: key and peer.toml stay."""
    for path in sorted(home.path.rglob("*"), reverse=True):
        if str(path.relative_to(home.path)).split("/")[0] in OF_A_NETWORK:
            path.rmdir() if path.is_dir() else path.unlink()


def test_a_home_of_an_older_networks_release_says_why_it_does_not_migrate_and_stays_as_it_is(old: Home) -> None:
    before = read_all(old)
    with pytest.raises(Refused, match=r"of format 0: .*older release .*format 1, this release reads format 2.*move"):
        old.bring_up_to_date()
    assert read_all(old) == before


def test_join_refuses_such_a_home_in_one_line(old: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["join", "--home", str(old.path), "--quiet"]) == EXIT_REFUSED
    assert "older release" in capsys.readouterr().err
    assert not (old.path / VERSION_FILE).exists()


def test_the_key_and_settings_of_an_old_home_migrate(old: Home) -> None:
    leave_network(old)
    account = old.load_key().account
    assert old.bring_up_to_date() == 0
    assert decode_version((old.path / VERSION_FILE).read_bytes()) == HOME_FORMAT
    assert old.load_key().account == account and load_config(old).observe
    assert old.bring_up_to_date() == HOME_FORMAT


def test_every_other_file_of_the_old_home_is_read_by_this_release(old: Home) -> None:
    """Format 1 changed none of them: only the rules of the old network are gone."""
    with ChainStore(old.path / "chain", read_only=True) as store:
        head = records.read_head(store)
        first = records.read_block(store, 0)
        assert head is not None and head.height == 3
    key, domain = old.load_key(), ChainDomain(771_180, first.header.extra_data)
    with_signer = open_signer_file(old.path / "consensus" / "signer.log", key, domain, final_height=3)
    assert with_signer.signer.mark >= 3 and not with_signer.is_doubtful
    with_signer.close()
    log, rows = open_record_log(old.path / "consensus" / "wal.log")
    log.close()
    assert rows and all(decode_wal_record(*row) for row in rows)
    assert RoundSecrets(old.path / "rounds").load(1, 1, "scores") == {"scores": [-5, 7], "salt": bytes(32)}
    (digest,) = [bytes.fromhex(path.name) for path in (old.path / "blobs" / "objects").iterdir()]
    assert BlobReader(old.path / "blobs").read_object(digest) == b"an object of a home of format 0"


def test_the_migration_of_format_0_is_pure_and_changes_nothing(old: Home) -> None:
    files = {"peer.toml": (old.path / "peer.toml").read_bytes()}
    assert migrate_0(files) == {}
    with pytest.raises(Refused):
        migrate_0({**files, "genesis.json": (old.path / "genesis.json").read_bytes()})
    with pytest.raises(InvalidEncoding, match="format 1"):
        decode_genesis((old.path / "genesis.json").read_bytes())


def test_every_older_format_has_a_migration() -> None:
    assert set(MIGRATIONS) == set(range(HOME_FORMAT))


def test_a_newer_home_is_refused_by_its_number(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create_key()
    write_private(tmp_path / VERSION_FILE, encode_version(HOME_FORMAT + 1))
    for use in (home.bring_up_to_date, home.load_key, home.load_genesis):
        with pytest.raises(Refused, match=f"format {HOME_FORMAT + 1}, this release knows formats up to {HOME_FORMAT}"):
            use()


@pytest.mark.parametrize("data", [b"", b"1\n", b"flock-p2p home 01\n", b"flock-p2p home 1", b"flock-p2p home \xb2\n"])
def test_a_damaged_version_is_no_old_home(tmp_path: Path, data: bytes) -> None:
    write_private(tmp_path / VERSION_FILE, data)
    with pytest.raises(Refused, match="back-up"):
        Home(tmp_path).bring_up_to_date()


def test_a_new_key_makes_a_home_of_the_newest_format(tmp_path: Path) -> None:
    home = Home(tmp_path / "new")
    home.create_key()
    assert home.bring_up_to_date() == HOME_FORMAT


def test_a_crash_between_a_file_and_the_version_is_mended_by_the_next_start(tmp_path: Path) -> None:
    """With a migration that changes a file: it meets its own result and leaves it."""
    write_private(tmp_path / "peer.toml", b"old")
    written: list[str] = []

    def crashing(path: Path, data: bytes) -> None:
        if path.name == VERSION_FILE and len(written) < 2:
            raise KeyboardInterrupt
        written.append(path.name)
        write_private(path, data)

    def mend(_files: object) -> dict[str, bytes]:
        return {"peer.toml": b"new"}

    for _ in range(2):
        try:
            bring_up_to_date(tmp_path, crashing, {0: mend})
        except KeyboardInterrupt:
            assert (tmp_path / "peer.toml").read_bytes() == b"new" and not (tmp_path / VERSION_FILE).exists()
    bring_up_to_date(tmp_path, crashing, {0: mend})
    assert written[-1] == VERSION_FILE
