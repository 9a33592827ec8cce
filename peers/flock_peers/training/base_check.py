"""Whether a folder holds a base model that can be trained here, told from its files alone. Needs no torch.

Each refusal names the check that failed. The weights themselves are checked where they are loaded.
"""

from pathlib import Path
from typing import Any

from flock_chain.bounded_json import loads
from flock_chain.errors import Misuse
from flock_peers.plural import plural
from flock_peers.training.base_manifest import (
    CONFIGS,
    INDEX,
    MAX_CONFIG_BYTES,
    MAX_INDEX_BYTES,
    TOKENIZERS,
    list_weights,
)

MAX_CONFIG_DEPTH = 16
_HEADS = ("ForCausalLM", "LMHeadModel")  # ends of names of architectures that continue text


class UnusableBase(Misuse):
    """A model that cannot be opened, for a reason of its own: it will not be another one later."""


def check_base_folder(folder: Path) -> dict[str, Any]:
    """The configuration. Raises Misuse naming the check, and what to do."""
    config = check_beside(folder)
    _check_weights(folder)
    return config


def check_beside(folder: Path) -> dict[str, Any]:
    """The same for all but the weights, which are fetched last. The configuration."""
    if (folder / "adapter_config.json").exists():
        raise _refusal(
            folder, "it is an adapter (adapter_config.json), no base model",
            "name the folder of the model that it was made on, or of both merged",
        )  # fmt: skip
    has_tokenizer = (folder / "tokenizer.json").is_file()
    said = {
        name: check_configuration(folder, name, has_tokenizer=has_tokenizer)
        for name in CONFIGS
        if name == "config.json" or (folder / name).exists()
    }
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise _refusal(folder, "it has no tokenizer", "save the tokenizer beside it")
    return said["config.json"]


def check_configuration(folder: Path, name: str, *, has_tokenizer: bool) -> dict[str, Any]:
    """What one file of CONFIGS says by itself. `has_tokenizer`: tokenizer.json belongs to the base."""
    said = read_json(folder / name, MAX_CONFIG_BYTES)
    if said.get("auto_map"):
        raise _refusal(
            folder, f"it needs code of its own (auto_map in {name}), which is never run", "take a model without it"
        )
    _check_names(folder, name, said, has_tokenizer)
    if name == "config.json":
        _check_model(folder, said)
    return said


def _check_model(folder: Path, config: dict[str, Any]) -> None:
    if config.get("transformers_weights"):  # would be read in place of what was checked
        raise _refusal(folder, "it names another file of weights (transformers_weights)", "take that key out")
    architectures = config.get("architectures") or []
    if not any(isinstance(name, str) and name.endswith(_HEADS) for name in architectures):
        raise _refusal(
            folder, f"architectures {str(architectures)[:80]} name no causal language model", "take one that does"
        )
    if config.get("quantization_config"):
        raise _refusal(
            folder, "its weights are quantised already, so peers would disagree on what they mean",
            "take the unquantised model, and --precision int4",
        )  # fmt: skip


def _check_names(folder: Path, name: str, said: dict[str, Any], has_tokenizer: bool) -> None:
    """Libraries take names of files from a configuration where the folder has none: none of them may lead out of it.

    What old releases left there of their own cache is read by nothing, or in place of the folder's own file only.
    """
    unread = {"special_tokens_map_file"} | ({"tokenizer_file"} if has_tokenizer else set())
    for key, value in said.items():
        if not key.endswith(("_file", "_files")) or key in unread:
            continue
        names = value if isinstance(value, list) else [value]
        if any(isinstance(each, str) and {"/", "\\"} & set(each) for each in names):
            raise _refusal(folder, f"{key} in {name} leads out of the folder", "take that key out")


def _check_weights(folder: Path) -> None:
    names = {path.name for path in list_weights(folder)}
    if not names:
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        what = "its weights are pickled, which is never loaded" if pickled else "it has no weights"
        raise _refusal(folder, what, "save it as safetensors")
    index = folder / INDEX
    if index.exists():
        wanted = read_json(index, MAX_INDEX_BYTES).get("weight_map")
        if not isinstance(wanted, dict) or not all(isinstance(name, str) for name in wanted.values()):
            raise _refusal(folder, "its index of weights is damaged", "fetch it again")
        missing = sorted(set(wanted.values()) - names)
        if missing:
            raise _refusal(
                folder,
                f"weights are missing: {plural(len(missing), 'file')}, the first {missing[0]!r:.80}",
                "fetch them",
            )


def check_context(config: Any, seq_len: int, vocabulary: int) -> None:
    """Positions and tokens that the model has; `config` is transformers' own."""
    most = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if most is not None and seq_len > most:
        raise UnusableBase(
            f"base model: the task's sequences have {seq_len} tokens, the model {most} positions; "
            f"the budget's seq_len may be {most} at most"
        )
    if vocabulary > config.vocab_size:
        raise UnusableBase(
            f"base model: its tokenizer has {vocabulary} tokens, its embedding {config.vocab_size}; "
            "take the tokenizer that belongs to it"
        )


def read_json(path: Path, most: int) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
        value = loads(data, depth=MAX_CONFIG_DEPTH) if len(data) <= most else None
    except OSError as error:
        what = f"no {path.name}" if path.parent.is_dir() else "there is no such folder"
        raise Misuse(f"base model {path.parent}: {what}; name a transformers folder") from error
    except ValueError as error:
        raise Misuse(f"base model {path.parent}: {path.name} is no JSON; fetch it again") from error
    if not isinstance(value, dict):
        raise Misuse(f"base model {path.parent}: {path.name} is no object of at most {most} bytes")
    return value


def _refusal(folder: Path, what: str, advice: str) -> Misuse:
    return Misuse(f"base model {folder}: {what}; {advice}")
