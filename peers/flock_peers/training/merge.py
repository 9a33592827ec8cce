"""Base and adapter as one model: `python -m flock_peers.training.merge BASE ADAPTER OUT PRECISION`, for torch.

Merges in float32 and writes that, or the base model's own precision, with its tokenizer: a plain transformers folder.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from flock_chain.errors import FlockError, Misuse

WEIGHTS_NAME, CONFIG_NAME = "adapter_model.safetensors", "adapter_config.json"


def merge(base: Path, adapter: Path, out: Path, precision: str) -> None:
    """`adapter`: a PEFT folder. Raises Misuse where it or the base cannot be loaded."""
    for name in (WEIGHTS_NAME, CONFIG_NAME):  # never a pickle
        if not (adapter / name).is_file():
            raise Misuse(f"adapter {adapter}: no {name}; name a folder that `export` wrote")
    from flock_peers.training.opening import load_tokenizer  # first: it keeps the libraries off the network

    tokenizer = load_tokenizer(base)
    import torch
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            base, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
        merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload(safe_merge=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise Misuse(f"adapter {adapter} on base model {base}: {str(error)[:300]}") from error
    if precision == "base" and isinstance(config.dtype, torch.dtype):
        merged = merged.to(config.dtype)
    merged.save_pretrained(str(out))
    tokenizer.save_pretrained(str(out))
    for path in out.iterdir():
        path.chmod(0o644)  # safetensors' are their owner's alone; whoever serves the model may be somebody else


def main(arguments: Sequence[str]) -> int:
    base, adapter, out = (Path(text) for text in arguments[:3])
    try:
        merge(base, adapter, out, arguments[3])
    except FlockError as error:
        print(f"merge: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
