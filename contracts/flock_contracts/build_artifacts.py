"""Compile vyper/*.vy into artifacts/*.json: `python -m flock_contracts.build_artifacts`. Needs vyper (development)."""

import json
import sys
from pathlib import Path
from typing import Any

from vyper.compiler import compile_from_file_input
from vyper.compiler.input_bundle import FilesystemInputBundle
from vyper.compiler.settings import OptimizationLevel, Settings

from flock_contracts.addresses import BY_NAME

HERE = Path(__file__).parent
SOURCES = HERE / "vyper"
ARTIFACTS = HERE / "artifacts"
COMPILER = "vyper 0.4.3, legacy pipeline, optimize gas, cancun"


def compile_contract(name: str, sources: Path = SOURCES) -> dict[str, Any]:
    """The artifact: ABI, runtime bytecode, and a sha256 over the source and everything that it imports."""
    bundle = FilesystemInputBundle([sources])
    settings = Settings(evm_version="cancun", optimize=OptimizationLevel.GAS, experimental_codegen=False)
    with bundle.search_path(sources):
        source = bundle.load_file(Path(f"{name}.vy"))
    output = compile_from_file_input(
        source, input_bundle=bundle, settings=settings, output_formats=["abi", "bytecode_runtime", "integrity"]
    )
    return {
        "name": name,
        "compiler": COMPILER,
        "source_sha256": output["integrity"],
        "abi": output["abi"],
        "runtime": output["bytecode_runtime"].removeprefix("0x"),
    }


def render(artifact: dict[str, Any]) -> str:
    """One ABI entry a line, so that a change of the interface reads well in a diff."""
    abi = ",\n    ".join(json.dumps(entry, sort_keys=True) for entry in artifact["abi"])
    rest = ",\n  ".join(f"{json.dumps(key)}: {json.dumps(artifact[key])}" for key in artifact if key != "abi")
    return f'{{\n  "abi": [\n    {abi}\n  ],\n  {rest}\n}}\n'


def main() -> int:
    ARTIFACTS.mkdir(exist_ok=True)
    for name in BY_NAME:
        artifact = compile_contract(name)
        (ARTIFACTS / f"{name}.json").write_text(render(artifact), encoding="utf-8")
        print(f"{name}: {len(artifact['runtime']) // 2} bytes of runtime code")
    return 0


if __name__ == "__main__":
    sys.exit(main())
