"""What no trainer can open is refused before anything is paid, with the reason that the trainer has."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from family_support import FAMILIES, change_config, drop_a_weight, make_family, make_part, spoil_a_weight
from safetensors import SafetensorError
from tokenizers import Tokenizer, models, pre_tokenizers
from training_support import SEED, write_split

from flock_chain.errors import Misuse
from flock_peers.training import opening_trial
from flock_peers.training.base_check import UnusableBase, check_context
from flock_peers.training.client import Trainer, TrainerConfig
from flock_peers.training.document import Budget, LoraSettings, compute_layout, create_document
from flock_peers.training.model import AdaptedModel
from flock_peers.training.opening import ADVICE, try_opening
from flock_peers.training.opening_trial import check_opening
from flock_peers.training.reasons import MAX_REASON, describe, shorten
from flock_peers.training.tokenizer_trial import PLAIN, check_before_rows

BUDGET = Budget(steps=2, batch=2, seq_len=48, lr_millionths=5_000, eval_windows=4)


def open_without_weights(folder: Path) -> None:
    layout, targets = compute_layout(folder, 4)
    try_opening(folder, [(LoraSettings(4, 8, targets), layout)], BUDGET.seq_len)


def make_mamba(folder: Path) -> None:
    import torch
    import transformers

    torch.manual_seed(7)
    config = transformers.MambaConfig(vocab_size=384, hidden_size=32, num_hidden_layers=2, state_size=4)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def write(path: Path, **values: object) -> None:
    path.write_text(json.dumps(values))


def change_header(folder: Path, **values: object) -> None:
    """Of its first weight; the bytes that follow stay as they are."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header[min(set(header) - {"__metadata__"})] |= values
    changed = json.dumps(header).encode()
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + data[start:])


WRONG: list[tuple[Callable[[Path], None], str]] = [
    (lambda folder: change_config(folder, model_type="nosuchmodel"), "model type `nosuchmodel` but Transformers"),
    (drop_a_weight, r"weights missing: model.layers.1.self_attn.q_proj.weight; they would be made up: fetch all again"),
    (
        lambda folder: change_config(folder, pad_token_id=9999),
        "Padding_idx must be .*; the model has to be mended, or an",
    ),
    (make_mamba, "takes no LoRA .*incompatible with Mamba-based models"),
    (
        lambda folder: change_config(folder, intermediate_size=56),
        "weights have other shapes than its config",
    ),
    (lambda folder: change_config(folder, vocab_size=100), "weights have other shapes than its config"),
    (
        lambda folder: change_config(folder, max_position_embeddings=32),
        "48 tokens, the model 32 positions; the budget's seq_len may be 32 at most",
    ),
    (lambda folder: change_header(folder, dtype="Q8"), "deserializing header: invalid JSON in header: unknown variant"),
    (lambda folder: change_header(folder, dtype="F16"), "invalid shape, data type, or offset for tensor"),
    (
        lambda folder: write(folder / "generation_config.json", max_new_tokens=0),
        "`max_new_tokens` must be greater than 0",
    ),
    (
        lambda folder: change_config(folder, _attn_implementation="flash_attention_2"),
        "FlashAttention2 has been toggled on",
    ),
]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_that_trains_is_opened_without_its_weights(name: str, tmp_path: Path) -> None:
    open_without_weights(make_family(name, tmp_path / "base"))


def test_a_part_of_a_model_that_has_the_configuration_of_the_whole_is_opened_with_its_weights_and_without(
    tmp_path: Path,
) -> None:
    folder = make_part(tmp_path / "base")
    assert json.loads((folder / "config.json").read_text())["text_config"]["vocab_size"] == 384
    document = create_document("part", folder, seed=SEED, budget=BUDGET, rank=4, alpha=8)
    assert AdaptedModel(folder, document).parameters
    open_without_weights(folder)


@pytest.mark.parametrize(("damage", "reason"), WRONG)
def test_what_is_refused_without_weights_is_refused_with_them_and_for_good(
    damage: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    folder = make_family("llama", tmp_path / "base")
    damage(folder)
    with pytest.raises(UnusableBase, match=reason):
        open_without_weights(folder)
    document = create_document("wrong", folder, seed=SEED, budget=BUDGET, rank=4, alpha=8)
    with pytest.raises(UnusableBase, match=reason) as found:
        AdaptedModel(folder, document)
    assert "\n" not in str(found.value) and len(str(found.value)) < len(str(folder)) + MAX_REASON + len(ADVICE) + 60


def test_a_tokenizer_of_another_model_is_refused_with_both_numbers() -> None:
    with pytest.raises(UnusableBase, match="has 20 tokens, its embedding 10; take the tokenizer that belongs to it"):
        check_context(SimpleNamespace(vocab_size=10), seq_len=1, vocabulary=20)


def test_the_trial_says_why_names_the_folder_and_comes_to_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_family("llama", tmp_path / "base")
    check_opening(folder)
    drop_a_weight(folder)
    with pytest.raises(UnusableBase, match=f"^base model {folder}: weights missing: model.layers.1"):
        check_opening(folder)
    monkeypatch.setattr(opening_trial, "TRIAL_SECONDS", 0.01)
    with pytest.raises(UnusableBase, match="is not opened after 0 s of the processor"):
        check_opening(folder)


SPEECHLESS = [
    (models.Unigram([("hello", -1.0), ("a", -2.0)]), "unknown token but `unk_id` is missing"),
    (models.WordPiece({"hello": 0, "a": 1}, unk_token="?"), "Missing"),
    (models.WordLevel({"hello": 0, "a": 1}, unk_token="?"), "Missing"),
    (models.BPE({"\u00e9": 0, "\u00e0": 1}, []), "it makes no token of it"),
]


@pytest.mark.parametrize(("model", "reason"), SPEECHLESS)
def test_a_tokenizer_that_fails_at_what_it_does_not_know_is_refused_before_anybody_brought_a_row(
    model: models.Model, reason: str, tmp_path: Path
) -> None:
    folder = make_family("llama", tmp_path / "base")
    Tokenizer(model).save(str(folder / "tokenizer.json"))
    with pytest.raises(Misuse, match=f"^base model {folder}: its tokenizer fails at plain text .*{reason}"):
        check_before_rows(folder, "")


def test_the_trial_reads_the_task_s_reference_which_is_known_before_it_is_paid(tmp_path: Path) -> None:
    folder = make_family("llama", tmp_path / "base")
    model = models.WordLevel({word: number for number, word in enumerate(PLAIN.split())}, unk_token="?")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    check_opening(folder)
    with pytest.raises(Misuse, match="its tokenizer fails at the task's reference"):
        check_opening(folder, reference="other words")


def test_where_no_task_is_known_one_projection_that_takes_lora_is_enough(tmp_path: Path) -> None:
    """A peer was refused with the base model of a task that its trainer opens."""
    folder = make_family("llama", tmp_path / "base")
    make_mamba(folder)
    document = create_document("some", folder, seed=SEED, budget=BUDGET, rank=4, alpha=8, targets=("in_proj",))
    assert AdaptedModel(folder, document).parameters
    try_opening(folder, [(document.lora, document.layout)], BUDGET.seq_len)
    check_opening(folder)
    with pytest.raises(UnusableBase, match=r"takes no LoRA .*'out_proj' is incompatible"):
        check_opening(folder, LoraSettings(4))


def test_the_trainer_tells_its_client_that_a_model_is_none_for_good(tmp_path: Path) -> None:
    import trio

    folder = make_family("llama", tmp_path / "base")
    make_mamba(folder)
    document = create_document("mamba", folder, seed=SEED, budget=BUDGET, rank=4, alpha=8)

    async def scenario() -> None:
        with trio.fail_after(120), pytest.raises(UnusableBase, match="takes no LoRA"):
            await Trainer.open(TrainerConfig(document, write_split(tmp_path / "home"), folder, domain="arithmetic"))

    trio.run(scenario)


def test_a_model_that_computes_no_number_is_none_for_good_before_its_participants_have_seats_to_miss(
    tmp_path: Path,
) -> None:
    folder = make_family("llama", tmp_path / "base")
    spoil_a_weight(folder)
    document = create_document("spoilt", folder, seed=SEED, budget=BUDGET, rank=4, alpha=8)
    with pytest.raises(UnusableBase, match=f"^base model {folder}: its loss is no number"):
        AdaptedModel(folder, document)


def test_a_reason_is_one_sentence_without_half_a_word() -> None:
    said = "The model  has no\nsuch layer. You may update.\n\nOr install it."
    assert describe(ValueError(said)) == "ValueError: The model has no such layer"
    assert shorten("a \x1b[2J\u202e name") == "a ?[2J? name", (
        "a terminal obeys, and a model's configuration is a stranger's"
    )
    long = shorten("word " * 200)
    assert len(long) <= MAX_REASON + 4 and long.endswith("word ...")


def test_what_the_machine_lacks_is_not_the_models_fault(tmp_path: Path) -> None:
    from flock_peers.training.opening import reasons_of

    no_thread, no_file = RuntimeError("can't start new thread"), SafetensorError("I/O error: Stale file (os error 116)")
    no_memory = RuntimeError("can't allocate memory")
    for error in (MemoryError(), no_memory, no_thread, no_file, OSError(28, "No space"), Misuse("no name")):
        with pytest.raises(type(error)) as found, reasons_of(tmp_path, "cannot be loaded"):
            raise error
        assert not isinstance(found.value, UnusableBase)
    with pytest.raises(UnusableBase, match=r"is no model .KeyError: 'layers'"), reasons_of(tmp_path, "is no model"):
        raise KeyError("layers")
