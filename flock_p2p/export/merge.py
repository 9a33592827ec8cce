"""`merge`: an exported adapter and its base model as one transformers folder. A process of its own loads torch."""

import shutil
import subprocess
import sys
from pathlib import Path

from flock_chain.errors import InvalidContent, Misuse
from flock_p2p.export.place import check_destination, new_folder
from flock_p2p.provenance import FILE_NAME, check_provenance
from flock_p2p.provenance.check import read_provenance
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.document import check_base, decode_document

MAX_WORDS = 2_000  # of what the process says when it fails


def merge_adapter(adapter: Path, destination: Path, base: Path | None = None, *, precision: str = "base") -> str:
    """Returns what was checked of the adapter, in words. `precision`: "base" or "float32", of what is written.

    Raises Misuse for a destination that is not empty, for what cannot be loaded and for a base model that is not the
    one that it was trained on; InvalidContent where the adapter's provenance does not hold.
    """
    check_destination(destination)
    base = base or BASE_FOLDER
    said = _check(adapter, base)
    with new_folder(destination) as folder:
        command = [sys.executable, "-m", "flock_peers.training.merge", str(base), str(adapter), str(folder), precision]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            words = done.stderr.strip()[-MAX_WORDS:].splitlines() or [f"ended with {done.returncode}"]
            raise Misuse(words[-1].removeprefix("merge: "))
        if (adapter / "README.md").is_file():
            shutil.copyfile(adapter / "README.md", folder / "ADAPTER.md")
    return said


def _check(adapter: Path, base: Path) -> str:
    if not (adapter / FILE_NAME).is_file():
        return f"no {FILE_NAME} there: neither the adapter nor the base model was checked"
    report = check_provenance(adapter)
    if not report.ok:
        raise InvalidContent(f"adapter {adapter}: its provenance does not hold: {report.failures[0]}")
    document = decode_document(read_provenance(adapter / FILE_NAME).document)
    try:
        check_base(base, document)
    except InvalidContent as error:
        raise Misuse(f"{error}; --base names the folder of the one that the adapter was trained on") from error
    if not report.are_weights_checked:
        raise InvalidContent(f"adapter {adapter}: its provenance says nothing of these weights; export it again")
    return "the adapter's provenance, and the base model's files by content id"
