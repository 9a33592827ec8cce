"""Ethereum's executable specification as a filter: a block per line on stdin, its result per line on stdout, as JSON.

Runs in an environment of its own, which holds `ethereum-execution` and nothing of this project: it shares no line with
what it judges. In: {"alloc", "env", "txs", "chain_id"} as `ethereum-spec-evm t8n` takes them. Out: roots, gas, what
was rejected, and the state after, for the next block's "alloc".
"""

import json
import sys
from argparse import Namespace
from io import StringIO

from ethereum_spec_tools.evm_tools.t8n import T8N, ForkCache


def run_block(line: str, cache: ForkCache) -> dict[str, object]:
    asked = json.loads(line)
    options = Namespace(
        input_alloc="stdin",
        input_env="stdin",
        input_txs="stdin",
        blob_parameters=None,
        state_fork="Cancun",
        state_chainid=asked["chain_id"],
        state_reward=-1,
        state_test=False,
        trace=False,
        opcode_count=None,
    )
    tool = T8N(options, StringIO(), StringIO(line), cache)
    tool.run_blockchain_test()
    result = tool.result
    return {
        "state_root": result.state_root.hex(),
        "receipt_root": result.receipt_root.hex(),
        "transaction_root": result.tx_root.hex(),
        "gas_used": int(result.gas_used),
        "rejected": {str(index): reason for index, reason in result.rejected.items()},
        "failure": result.block_exception,
        "alloc": tool.alloc.to_json(),
    }


def main() -> None:
    with ForkCache() as cache:
        for line in sys.stdin:
            print(json.dumps(run_block(line, cache)), flush=True)


if __name__ == "__main__":
    main()
