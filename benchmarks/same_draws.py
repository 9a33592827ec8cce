"""What our rule costs on the draws that it had: the honest of each round averaged, by somebody who knows them.

    python -m flock_p2p experiment --methods ours --attacks none,shared --seeds 21,22 --rounds 8 --out FOLDER
    python benchmarks/same_draws.py FOLDER/rows.jsonl [--seeds 21] [--json]

Between two runs of few rounds most of a difference in clean loss is who was drawn: stake grows with acceptance and
weighs in the draw, so two rules soon draw others. Here an oracle (the experiment's method of that name) gets the
proposers of each row of ours, round by round, trained from its own adapter. `oracle` is what it reaches, `price` what
ours lacks of it; the rest of the distance to FedAvg without attack is the draws', and the data of the malicious.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from flock_chain.aggregation.format import RATE_ONE
from flock_p2p.experiment.federation import Federation
from flock_p2p.experiment.rows import PARTICIPANTS, Row
from flock_peers.training.laboratory import Laboratory


@dataclass
class SameDraws(Federation):
    """Seats are given, nobody votes, and nobody is paid: pay would only change draws."""

    seats: list[list[int]] = field(default_factory=list)  # proposers by round

    def _draw(self, number: int) -> tuple[list[int], list[int]]:
        return self.seats[number], []


def read_rows(path: Path, seeds: Collection[int]) -> Iterator[dict[str, Any]]:
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["method"] == "ours" and (not seeds or row["seed"] in seeds):
            yield row


def replay(ours: dict[str, Any], laboratory: Laboratory) -> dict[str, Any]:
    row = Row(**{one.name: ours[one.name] for one in fields(Row)} | {"method": "oracle"})
    seats = [point["proposers"] for point in ours["history"]]
    rate = ours.get("server_lr_thousandths", RATE_ONE)  # rows of before had none
    oracle = SameDraws(row, laboratory, rate, seats=seats).run(lambda *_: None)
    return {
        "attack": ours["attack"], "malicious": ours["malicious"], "seed": ours["seed"], "rounds": ours["rounds"],
        "ours": ours["clean_loss"], "oracle": oracle["clean_loss"],
        "price": round(ours["clean_loss"] - oracle["clean_loss"], 5),
        "by_round": [
            [mine["clean_loss"], its["clean_loss"]]
            for mine, its in zip(ours["history"], oracle["history"], strict=True)
        ],
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, metavar="rows.jsonl")
    parser.add_argument("--seeds", default="", help="only these (default: all)")
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    options = parser.parse_args(arguments)
    prices = []
    for ours in read_rows(options.rows, {int(seed) for seed in options.seeds.split(",") if seed}):
        price = replay(ours, Laboratory(PARTICIPANTS, ours["seed"]))
        prices.append(price)
        text = "{attack} {malicious} %, seed {seed}: ours {ours:.3f}, oracle {oracle:.3f}, price {price:+.3f}"
        print(text.format(**price), file=sys.stderr if options.json else sys.stdout, flush=True)
    if options.json:
        print(json.dumps({"rows": prices}))
    elif prices:
        print(f"mean price {statistics.mean(price['price'] for price in prices):+.3f} nats per token")
    return 0


if __name__ == "__main__":
    sys.exit(main())
