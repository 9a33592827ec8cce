"""`abi`: the genesis contracts for Ethereum tools: the ABI of one, or names, addresses and ABIs of all."""

import argparse
import json


def run(arguments: argparse.Namespace) -> int:
    from flock_contracts.loader import load_all

    contracts = load_all()
    if arguments.contract is None:
        rows = {name: {"address": "0x" + row.address.hex(), "abi": row.abi} for name, row in contracts.items()}
        print(json.dumps(rows, indent=2))
        return 0
    print(json.dumps(contracts[arguments.contract].abi, indent=2))
    return 0
