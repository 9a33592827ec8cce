"""docs/upstream.md says where each defect of a library is mended: what it names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ROOT / "peers" / "flock_peers" / "network"


def test_what_is_said_to_mend_a_library_is_there() -> None:
    text = (ROOT / "docs" / "upstream.md").read_text()
    sources = {path.stem: path.read_text() for path in PARTS.glob("*.py")}
    named = [name.split(".") for name in re.findall(r"`([a-z_]+(?:\.\w+)+)(?:\(\))?`", text)]
    named = [parts for parts in named if parts[0] in sources]
    gone = [
        ".".join([module, *names])
        for module, *names in named
        if not all(re.search(rf"\b(?:def|class) {name}\b", sources[module]) for name in names)
    ]
    assert len(named) > 10 and not gone
