"""A base model named as on the Hugging Face hub, found in this machine's cache of it. Opens no connection; knows paths.

A name stands for one revision, in full: what moves (a branch, a tag) would be another model tomorrow. What the folder
may hold is checked where it is used (base_check); what participants share are the content ids of its files.
"""

import os
import re
from pathlib import Path

from flock_chain.errors import Misuse

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?", re.ASCII)
_REVISION = re.compile(r"[0-9a-f]{40}", re.ASCII)


def find_base(text: str, cache: Path | None = None) -> Path:
    """`text`: a folder, or NAME@REVISION. The folder; raises Misuse saying how to get what is not here."""
    folder = Path(text).expanduser()
    if folder.is_dir() or "@" not in text:
        return folder.resolve()
    name, _, revision = text.rpartition("@")
    if not _NAME.fullmatch(name) or ".." in name:
        raise Misuse(f"base model {text}: neither a folder nor NAME@REVISION, such as Qwen/Qwen2.5-0.5B@060db649...")
    stored = (cache or find_cache()) / ("models--" + name.replace("/", "--"))
    if not _REVISION.fullmatch(revision):
        raise Misuse(f"base model {text}: a revision is the 40 hex digits of a commit{_tell_commit(stored, revision)}")
    snapshot = stored / "snapshots" / revision
    if not snapshot.is_dir():
        raise Misuse(
            f"base model {text}: not in {stored.parent}; fetch it first: hf download {name} --revision {revision}"
        )
    _check_links(snapshot, stored)
    return snapshot.resolve()


def find_name(folder: Path) -> tuple[str, str] | None:
    """Name and revision of a folder in the cache: the other way round. None for any other folder."""
    stored, _, revision = folder.parts[-3:] if len(folder.parts) > 2 else ("", "", "")
    name = stored.removeprefix("models--").replace("--", "/")
    is_cached = stored.startswith("models--") and folder.parent.name == "snapshots"
    return (name, revision) if is_cached and _NAME.fullmatch(name) and _REVISION.fullmatch(revision) else None


def find_cache() -> Path:
    """Where the hub's own tools keep what they fetched."""
    told = os.environ.get("HF_HUB_CACHE")
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return Path(told).expanduser() if told else Path(home).expanduser() / "hub"


def _tell_commit(stored: Path, reference: str) -> str:
    """What a branch or tag stood for when it was fetched."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}", reference, re.ASCII):
        return ""
    try:
        found = (stored / "refs" / reference).read_bytes()[:41].decode("ascii", "replace").strip()
    except OSError:
        return ""
    return f"; {reference} was {found} when it was fetched" if _REVISION.fullmatch(found) else ""


def _check_links(snapshot: Path, stored: Path) -> None:
    """A snapshot's files are links into the model's own blobs: whoever shares the base shares what they lead to."""
    inside = stored.resolve()
    for path in sorted(snapshot.iterdir()):
        if not path.exists():
            raise Misuse(f"base model {snapshot}: {path.name} leads nowhere; an interrupted download: fetch it again")
        if not path.resolve().is_relative_to(inside):
            raise Misuse(f"base model {snapshot}: {path.name} leads out of the model's own folder")
