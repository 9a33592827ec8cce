"""`doctor`: whether what is installed is whole. Checks the package; the machine and the network come later."""

import argparse

from flock_chain.errors import Misuse


def run(arguments: argparse.Namespace) -> int:  # noqa: ARG001 - one signature for all commands
    from flock_chain.execution.genesis_state import compute_contract_hashes
    from flock_peers.training.client import BASE_FOLDER
    from flock_peers.training.document import compute_base_file, list_base_files

    hashes = compute_contract_hashes()
    files = [compute_base_file(path) for path in list_base_files(BASE_FOLDER)]
    if not any(file.name.endswith(".safetensors") for file in files):
        raise Misuse(f"the package is not whole: no base model in {BASE_FOLDER}; install it again")
    print(f"contracts   {', '.join(name for name, _ in hashes)}")
    print(f"base model  {len(files)} files, {sum(file.size for file in files) / 1e6:.1f} MB")
    return 0
