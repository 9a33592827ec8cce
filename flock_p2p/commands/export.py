"""`export`: the global adapter as a folder that peft loads."""

import argparse

from flock_p2p.export import export_adapter


def run(arguments: argparse.Namespace) -> int:
    result = export_adapter(
        arguments.home.expanduser(), arguments.out.expanduser(), task=arguments.task, round=arguments.round
    )
    print(f"adapter  {arguments.out}  (task {result.task}, after round {result.round})")
    print(f'load     PeftModel.from_pretrained(base_model, "{arguments.out}")')
    return 0
