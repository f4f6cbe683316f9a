#!/usr/bin/env bash
# transformers 5.23.0 (with tokenizers and gguf as pinned below): a GGUF file of SmolLM2 is tokenised by GPT-2's rules.
#
# Behaviour: a GGUF file names the rules that its byte-level tokenizer splits texts by (`tokenizer.ggml.pre`). transformers
#   reads the name and knows more than twenty, but not `smollm`; an unknown name falls back to GPT-2's rules, without a
#   warning. SmolLM2 sets every digit apart first, which also changes how the white space before a digit is split, so
#   that line breaks before a numbered item become other tokens.
# Expected: the ids that the same vocabulary and merges give under SmolLM2's own tokenizer.json (digits apart, then GPT-2's
#   rules), or an error that names the unknown rules.
# Why it matters: every token of a list in a preference pair may differ from what the model was pretrained on. Training and
#   scoring go on as usual, and nothing says that a model from a GGUF file is not the model from its own folder.
# Seen: 2026-11-28.
# Output seen:
#   as the model's own rules have it: ['ĊĊ', '1', '.', 'ĊĠĠ', '2', '.']
#   transformers, from the GGUF file: ['Ċ', 'Ċ', '1', '.', 'ĊĠ', 'Ġ', '2', '.']
#   the name in the file: smollm; known to transformers: False
# Source: transformers/integrations/gguf/gguf_tokenizer_mapping.py, GGUF_PRE_TOKENIZER_SPLITS and set_split_regex.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check transformers==5.23.0 tokenizers==0.23.3 gguf==0.19.0 numpy==2.4.6 torch==2.13.0
cat > show.py <<'PYTHON'
import json

import gguf
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

# A small vocabulary that has a token for two line breaks, and one for a line break with two blanks behind it.
own = Tokenizer(models.BPE())
digits = pre_tokenizers.Digits(individual_digits=True)
own.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
trainer = trainers.BpeTrainer(special_tokens=["<|end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
own.train_from_iterator(["a\n\n1.\n  2."] * 9, trainer)

writer = gguf.GGUFWriter("model.gguf", "llama")
writer.add_block_count(1)
writer.add_tokenizer_model("gpt2")
writer.add_tokenizer_pre("smollm")
writer.add_token_list([token for token, _ in sorted(own.get_vocab().items(), key=lambda item: item[1])])
writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (own.get_vocab_size() - 1))
writer.add_token_merges([" ".join(pair) for pair in json.loads(own.to_str())["model"]["merges"]])
writer.add_eos_token_id(0)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.close()

text = "\n\n1.\n  2."
right = own.encode(text).tokens
read = AutoTokenizer.from_pretrained(".", gguf_file="model.gguf").tokenize(text)
print("as the model's own rules have it:", right)
print("transformers, from the GGUF file:", read)
print("the name in the file: smollm; known to transformers:", "smollm" in GGUF_PRE_TOKENIZER_SPLITS)
assert right == ["ĊĊ", "1", ".", "ĊĠĠ", "2", "."]
assert read == ["Ċ", "Ċ", "1", ".", "ĊĠ", "Ġ", "2", "."], "it is no longer so"
PYTHON
env/bin/python show.py
