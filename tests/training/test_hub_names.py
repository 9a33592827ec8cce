"""Base models by hub name and revision, in a folder laid out as the hub's cache is: blobs, and links to them."""

import shutil
from pathlib import Path

import pytest
from family_support import make_family

from flock_chain.errors import Misuse
from flock_p2p.cli import main
from flock_peers.training.base_check import check_base_folder
from flock_peers.training.document import check_fit, create_document
from flock_peers.training.hub import find_base, find_cache, find_name
from flock_peers.training.model import AdaptedModel

COMMIT, OTHER = "0123456789abcdef" * 2 + "01234567", "f" * 40
NAME = "somebody/small-model"


def make_cache(cache: Path, *, family: str = "llama", commit: str = COMMIT) -> Path:
    """The snapshot's folder; `refs/main` names its commit."""
    made = make_family(family, cache / "made")
    stored = cache / "models--somebody--small-model"
    snapshot, blobs = stored / "snapshots" / commit, stored / "blobs"
    for folder in (snapshot, blobs, stored / "refs"):
        folder.mkdir(parents=True)
    for path in made.iterdir():
        path.rename(blobs / f"blob-of-{path.name}")
        (snapshot / path.name).symlink_to(Path("../../blobs") / f"blob-of-{path.name}")
    (stored / "refs" / "main").write_text(commit)
    return snapshot


def test_a_name_with_its_revision_is_the_snapshot_in_the_cache_and_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = make_cache(tmp_path)
    found = find_base(f"{NAME}@{COMMIT}", tmp_path)
    assert found == snapshot.resolve()
    assert find_name(found) == (NAME, COMMIT) and find_name(found.parent) is None
    for other in ("snapshots/main", f"blobs/{COMMIT}"):
        assert find_name(tmp_path / "models--somebody--small-model" / other) is None
    document = create_document("by name", found, seed=bytes(32), rank=2)
    copy = shutil.copytree(found, tmp_path / "copy")  # a participant that has a folder instead
    check_fit(copy, document)
    monkeypatch.setattr("socket.socket", None)
    assert AdaptedModel(found, document).count_base_bytes() > 0


def test_the_cache_is_where_the_hub_s_own_tools_have_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert find_cache() == tmp_path / "cache"
    monkeypatch.delenv("HF_HUB_CACHE")
    assert find_cache() == tmp_path / "home" / "hub"
    monkeypatch.delenv("HF_HOME")
    assert find_cache() == Path.home() / ".cache" / "huggingface" / "hub"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{NAME}@{OTHER}", f"hf download somebody/small-model --revision {OTHER}"),
        (f"{NAME}@main", f"40 hex digits of a commit; main was {COMMIT} when it was fetched"),
        (f"{NAME}@", "40 hex digits of a commit$"),
        (f"{NAME}@../../etc", "40 hex digits of a commit$"),
        (f"{NAME}@{COMMIT[:39]}", "40 hex digits of a commit$"),
        (f"../models--somebody--small-model@{COMMIT}", "neither a folder nor NAME@REVISION"),
        (f"a/b/c@{COMMIT}", "neither a folder nor NAME@REVISION"),
        (f"a..b@{COMMIT}", "neither a folder nor NAME@REVISION"),
    ],
)
def test_what_is_no_pinned_name_or_is_not_here_is_refused_with_what_to_do(
    text: str, reason: str, tmp_path: Path
) -> None:
    make_cache(tmp_path)
    with pytest.raises(Misuse, match=reason):
        find_base(text, tmp_path)


def test_a_folder_is_a_folder_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / f"x@{COMMIT}").mkdir()
    assert find_base(str(tmp_path / f"x@{COMMIT}")) == (tmp_path / f"x@{COMMIT}").resolve()
    assert find_base("relative") == Path("relative").resolve()


def test_an_interrupted_download_and_a_link_out_of_the_model_are_refused(tmp_path: Path) -> None:
    snapshot = make_cache(tmp_path)
    (tmp_path / "secret.json").write_text("{}")
    (snapshot / "secret.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(Misuse, match=r"secret\.json leads out of the model's own folder"):
        find_base(f"{NAME}@{COMMIT}", tmp_path)
    (snapshot / "secret.json").unlink()
    (snapshot / "model.safetensors").resolve().unlink()
    with pytest.raises(Misuse, match=r"model\.safetensors leads nowhere; an interrupted download"):
        find_base(f"{NAME}@{COMMIT}", tmp_path)


def test_pickled_weights_and_code_in_a_snapshot_are_refused(tmp_path: Path) -> None:
    snapshot = make_cache(tmp_path)
    (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")
    with pytest.raises(Misuse, match="weights are pickled, which is never loaded"):
        check_base_folder(find_base(f"{NAME}@{COMMIT}", tmp_path))
    (snapshot / "pytorch_model.bin").rename(snapshot / "model.safetensors")
    config = (snapshot / "config.json").resolve()
    config.write_text(config.read_text().replace("{", '{"auto_map": {"AutoModelForCausalLM": "modeling.M"},', 1))
    with pytest.raises(Misuse, match="needs code of its own"):
        check_base_folder(find_base(f"{NAME}@{COMMIT}", tmp_path))


def test_commands_take_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_cache(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert main(["doctor", "--base", f"{NAME}@{COMMIT}"]) == 0
    assert "k_proj" in capsys.readouterr().out
    create = ["task", "create", "--home", str(tmp_path / "home"), "--pot", "1", "--model"]
    assert main([*create, f"{NAME}@{COMMIT}"]) == 3  # as far as asking the peer, and none runs
    assert "no peer answers" in capsys.readouterr().err
    for command in (["doctor", "--base"], create):
        with pytest.raises(SystemExit, match="2"):
            main([*command, f"{NAME}@main"])
        assert f"main was {COMMIT}" in capsys.readouterr().err
