"""The README.md of an exported adapter: what it is, how to load it, where it came from. Words alone."""

from pathlib import Path

from flock_chain.aggregation.format import RATE_ONE
from flock_chain.content import format_cid
from flock_p2p.export.origin import Origin, RoundRow
from flock_peers.training.client import BASE_FOLDER
from flock_peers.training.document import TaskDocument
from flock_peers.training.hub import find_name

_PROOF = """`provenance.json` proves all of this but the words, offline, to whoever knows the genesis hash:

    python -m flock_p2p verify --provenance FOLDER --genesis HASH

It checks the validators' certificates, the task's rounds in the state that they signed, the content id of the global
adapter (`global.safetensors`: the integers that the network agreed on), and that the weights here are its float32
view."""

_NO_PROOF = "No proof lies beside it: the home that it was exported from does not have what one needs."

_HUB = "Its files there must be those listed at the end."
_FOLDER = """`BASE` is the folder in which you have the base model: the files that are listed at the end.
adapter_config.json names it by the content id of that list."""
_SHIPPED = """`BASE` is the folder of the small model that comes with flock-p2p; this prints it:

    python -c "from flock_peers.training.client import BASE_FOLDER; print(BASE_FOLDER)"
"""

_TEXT = """---
library_name: peft
license: other
tags:
- lora
- flock-p2p
---
# {name}

A LoRA adapter (rank {rank}, alpha {alpha}) that the participants of a flock-p2p task trained together: task {task} of
the network {network}, after round {round}.

    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    base = AutoModelForCausalLM.from_pretrained({base})
    model = PeftModel.from_pretrained(base, "this folder")

{hint}

Base and adapter as one plain transformers folder:

    python -m flock_p2p merge --adapter FOLDER{merge_base} --out MERGED

## Licence

Neither the task nor the chain names one. It is made of the base model, whose licence holds for what is derived from it,
and of private rows of the proposers below; ask them before you publish it. What an adapter may reveal of such rows:
docs/security.md of flock-p2p.

## Where it came from

| | |
|---|---|
| genesis hash | `{genesis}` |
| task document | `{document}` |
| global adapter | `{adapter}` |
| training | {steps} steps of {batch} sequences of {seq_len} tokens, by each proposer in each round |
{rate}
{proof}

Losses: what the voters of a round measured on their own hold-outs, the median, as the change of the loss in millionths
where a quarter of the proposal is applied; less than 0 is better. They compare proposals of one round.

| round | accepted proposals: proposer, manifest, change of the loss | global adapter after it |
|---|---|---|
{rounds}

The base model's files, by content id:

{files}
"""


def describe(origin: Origin, document: TaskDocument, base: Path, *, is_proven: bool) -> str:
    """`base`: the folder here, of which nothing is told but what others can find it by."""
    named, rate = find_name(base), document.format.server_lr_thousandths
    return _TEXT.format(
        name=document.name,
        rank=document.lora.rank,
        alpha=document.lora.alpha,
        task=origin.task,
        network=origin.network,
        round=origin.round,
        base=f'"{named[0]}", revision="{named[1]}"' if named else "BASE",
        merge_base="" if base == BASE_FOLDER else f" --base {named[0]}@{named[1]}" if named else " --base BASE",
        hint=_HUB if named else _SHIPPED if base == BASE_FOLDER else _FOLDER,
        genesis=origin.genesis.hex(),
        document=format_cid(origin.document_digest),
        adapter=format_cid(origin.adapter),
        steps=document.budget.steps,
        batch=document.budget.batch,
        seq_len=document.budget.seq_len,
        rate="" if rate == RATE_ONE else f"| server rate | {describe_rate(rate)} |\n",
        proof=_PROOF if is_proven else _NO_PROOF,
        rounds="\n".join(_describe_round(row) for row in origin.rounds) or "| 0 | none | as the document describes |",
        files="\n".join(f"- `{file.name}` `{format_cid(file.digest)}`" for file in document.base_files),
    )


def describe_rate(thousandths: int) -> str:
    return f"each round added {thousandths / 1e3:g} times the mean of what it accepted"


def _describe_round(row: RoundRow) -> str:
    accepted = "<br>".join(
        f"`0x{who.hex()}` `{format_cid(manifest)}` {loss:+d}" for who, manifest, loss in row.accepted
    )
    return f"| {row.number} | {accepted or 'none adopted'} | `{format_cid(row.adapter)}` |"
