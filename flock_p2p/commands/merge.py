"""`merge`: base and adapter as one model that plain transformers loads."""

import argparse
import json

from flock_p2p.export.merge import merge_adapter


def run(arguments: argparse.Namespace) -> int:
    base = None if arguments.base is None else arguments.base.expanduser()
    checked = merge_adapter(
        arguments.adapter.expanduser(), arguments.out.expanduser(), base, precision=arguments.precision
    )
    if arguments.json:
        print(json.dumps({"folder": str(arguments.out), "checked": checked}, indent=2))
        return 0
    print(f"model    {arguments.out}")
    print(f"checked  {checked}")
    print(f'load     AutoModelForCausalLM.from_pretrained("{arguments.out}")')
    return 0
