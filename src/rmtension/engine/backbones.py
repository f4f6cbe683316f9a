"""Backbones as Hugging Face folders: made here, found in a folder, or out of a GGUF file."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from rmtension.base.errors import UserError
from rmtension.base.files import link_files, refuse_pointer, write_checksums
from rmtension.base.progress import Progress
from rmtension.data import synthetic
from rmtension.engine.architectures import first_layers, layer_sizes
from rmtension.engine.reward_model import NO_CODE, load_backbone, load_config, load_tokenizer, opening, save_tokenizer
from rmtension.engine.self_check import check_ending, check_states
from rmtension.study.models import FolderModel, GgufModel, MadeModel
from rmtension.study.naming import misfit

logger = logging.getLogger(__name__)

# How a GGUF file names the rules that a byte-level tokenizer splits texts by -> the splitter in such a model's own
# tokenizer.json, where transformers does not know the name and would take GPT-2's rules without a word.
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
DIGITS = pre_tokenizers.Digits(individual_digits=True)
SPLITTERS = {
    **dict.fromkeys(["gpt-2", "olmo", "mpt", "jais"], BYTES),
    **dict.fromkeys(
        ["smollm", "starcoder", "refact", "command-r", "codeshell"], pre_tokenizers.Sequence([DIGITS, BYTES])
    ),
}

CPU = torch.device("cpu")
POSITIONS = 512
END, PAD = "<|end|>", "<|pad|>"
BLOCK, BLOCKS_PER_STEP = 128, 16


def train_tokenizer(texts: list[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with an end and a padding token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END, PAD], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, model_max_length=POSITIONS)


def made_config(model: MadeModel, vocabulary: int, padding: int | None, end: int | None) -> PreTrainedConfig:
    """Configuration of a made backbone of that many tokens, two of them with a use; no dropout anywhere."""
    common = {
        "vocab_size": vocabulary,
        "pad_token_id": padding,
        "eos_token_id": end,
        "bos_token_id": None,
        # The usual 0.02 suits widths near 1,000; at a tenth of that it leaves the MLPs with next to nothing to say.
        "initializer_range": model.width**-0.5,
    }
    if model.family == "gpt2":
        return GPT2Config(
            n_positions=POSITIONS, n_embd=model.width, n_layer=model.layers, n_head=model.heads,
            n_inner=model.neurons, activation_function="gelu_pytorch_tanh", resid_pdrop=0.0, embd_pdrop=0.0,
            attn_pdrop=0.0, **common,
        )  # fmt: skip
    size = model.width // model.heads
    return AutoConfig.for_model(
        # What a family has no use for, its configuration carries along unread.
        model.family, max_position_embeddings=POSITIONS, hidden_size=model.width, num_hidden_layers=model.layers,
        num_attention_heads=model.heads, num_key_value_heads=model.heads, head_dim=size, query_pre_attn_scalar=size,
        intermediate_size=model.neurons, tie_word_embeddings=True, **common,
    )  # fmt: skip


def pretrain(model: Any, blocks: torch.Tensor, epochs: int, peak: float, seed: int) -> None:
    """Brief language-model training on token blocks [N, BLOCK], in place: AdamW, linear decay."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak)
    orders = np.concatenate([np.random.default_rng([seed, e]).permutation(len(blocks)) for e in range(epochs)])
    starts = range(0, len(orders), BLOCKS_PER_STEP)
    progress = Progress("pretraining", len(starts), "steps")
    for step, start in enumerate(starts):
        for group in optimizer.param_groups:
            group["lr"] = peak * (1 - step / len(starts))
        batch = blocks[orders[start : start + BLOCKS_PER_STEP]]
        loss = model(input_ids=batch, labels=batch).loss
        if not loss.isfinite():
            raise UserError(f"pretraining diverged at step {step + 1}: lower pretraining.learning_rate = {peak}")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        progress.advance(1, tokens=batch.numel(), note=f"loss {loss.item():.3f}")


def make_backbone(model: MadeModel, folder: Path) -> None:
    """Train a tokenizer and a small language model on the synthetic corpus."""
    settings = model.pretraining
    texts = synthetic.corpus(settings.texts, settings.seed)
    tokenizer = train_tokenizer(texts, model.vocabulary)
    torch.manual_seed(settings.seed)
    config = made_config(model, len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id)
    network = AutoModelForCausalLM.from_config(config)
    tokens = np.concatenate([[*ids, tokenizer.eos_token_id] for ids in tokenizer(texts)["input_ids"]])
    if len(tokens) < BLOCK:
        raise UserError(f"pretraining.texts = {settings.texts}: {len(tokens)} tokens; give more than {BLOCK}")
    blocks = torch.from_numpy(tokens[: len(tokens) // BLOCK * BLOCK].reshape(-1, BLOCK))
    pretrain(network, blocks, settings.epochs, settings.learning_rate, settings.seed)
    save(network, tokenizer, folder)


def gguf_tokenizer(file: Path) -> Any:
    """The tokenizer of a GGUF file; UserError where nobody here knows the rules that it splits texts by."""
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, **NO_CODE)
    reader = GGUFReader(file)
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    # GPT-2's end of text, which transformers adds to any byte-level vocabulary, has no embedding in other models.
    own: Any = reader.get_field("tokenizer.ggml.tokens")
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < len(own.data)]
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(content))
    said = [reader.get_field(key) for key in ("tokenizer.ggml.model", "tokenizer.ggml.pre")]
    kind, rules = (field.contents() if field else "unnamed" for field in said)
    if kind != "gpt2" or rules in GGUF_PRE_TOKENIZER_SPLITS:
        return tokenizer
    if rules not in SPLITTERS:
        known = ", ".join(sorted({*GGUF_PRE_TOKENIZER_SPLITS, *SPLITTERS}))
        fault = f"rules '{rules}' for splitting texts are not known ({known} are)"
        raise UserError(f"its {fault}; give the model as a folder with its own tokenizer.json")
    tokenizer.backend_tokenizer.pre_tokenizer = SPLITTERS[rules]
    return tokenizer


def convert_gguf(file: Path, folder: Path, layers: int | None = None) -> None:
    """Dequantise a GGUF file, or its first `layers` layers, to float32."""
    refuse_pointer(file)
    # Alone in a folder, as transformers would read settings of a tokenizer that lie beside it.
    with opening(file, "content"), TemporaryDirectory() as place:
        alone = Path(place, file.name)
        alone.symlink_to(file.resolve())
        tokenizer = gguf_tokenizer(alone)
        loaded = AutoModelForCausalLM.from_pretrained(place, gguf_file=file.name, dtype=torch.float32, **NO_CODE)
    # transformers refuses to save a model that it read from GGUF: a fresh one, of a configuration that no longer
    # calls itself quantised, takes over its weights.
    del loaded.config.quantization_config
    save(shortened(loaded, layers or loaded.config.num_hidden_layers), tokenizer, folder)


def shortened(network: Any, layers: int) -> Any:
    """A fresh network of the same class with the weights of the first `layers` layers, and all that is in no layer."""
    short = type(network)(first_layers(network.config, layers)).float()
    kept = short.state_dict().keys()
    short.load_state_dict({name: weight for name, weight in network.state_dict().items() if name in kept})
    return short


def save(network: Any, tokenizer: Any, folder: Path) -> None:
    network.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)


def check(folder: Path, origin: str) -> None:
    """UserError, with `origin` for the folder, where later jobs could not use a backbone, or not as it is."""
    try:
        tokenizer = load_tokenizer(folder)
        check_states(folder, load_backbone(folder, CPU), tokenizer)
        check_ending(folder, tokenizer, tokenizer.pad_token_id)
    except UserError as error:
        raise UserError(str(error).replace(str(folder), origin)) from None


def prepare_backbone(model: MadeModel | FolderModel | GgufModel, data_root: str, folder: Path) -> None:
    """Put a backbone into `folder`; UserError where it is damaged or no adapter knows its family."""
    match model:
        case MadeModel():
            make_backbone(model, folder)
            check(folder, f"made backbone of the family '{model.family}'")
        case FolderModel():
            local = model.local(data_root)
            check(local, str(local))
            if model.layers:
                save(shortened(load_backbone(local, CPU), model.layers), load_tokenizer(local), folder)
            else:
                link_files(model.files(data_root), folder)  # the same as from the hub: no code and no pickles
        case GgufModel():
            file = Path(data_root) / model.path
            convert_gguf(file, folder, model.layers)
            check(folder, str(file))
    write_checksums(folder)


def require_sizes(folder: Path, name: str, percent: float, sweep: Sequence[float | str]) -> None:
    """UserError where a set of neurons that a study asks for is larger than the backbone `name`, or would be empty.

    It is refused here, as the sets themselves are made once reward models are trained.
    """
    layers, neurons, _ = layer_sizes(load_config(folder))
    if wrong := misfit(name, layers * neurons, percent, sweep):
        raise UserError(wrong)
