#!/bin/sh
# Package: transformers 5.23.0, against 4.57.6 (torch 2.13.0). Seen 2026-11-28.
#
# Behaviour: a GPT-NeoX tokenizer whose files name no padding token, as Pythia's do, has none in version 4. In version 5
# it has "<|padding|>" (id 1 of Pythia's vocabulary): the default of the class, `GPTNeoXTokenizer.__init__` in
# models/gpt_neox/tokenization_gpt_neox.py. So the usual "if there is no padding token, take end-of-text" does nothing
# there, silently, and the model reads its score at another token.
#
# What most would expect: no padding token in either version, as the files have it; so the same score by the same lines.
#
# Why it matters: a sequence classifier is read at the last token that is not padding. In version 4 padding is then
# end-of-text, and a text that ends with it is scored at the token before. In version 5 the same text is scored at
# end-of-text itself. A Pythia reward model trained by such lines in one version and judged in the other is read at a
# token that was never trained on.
#
# Output seen:
#   4.57.6: padding None, then <|endoftext|> (0); end-of-text moves the score by 0.000
#   5.23.0: padding <|padding|> (1), then <|padding|> (1); end-of-text moves the score by 1.237
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install -qq torch==2.13.0 numpy==2.4.6 transformers==5.23.0
# Version 4 stands before version 5 where PYTHONPATH names this folder.
env/bin/pip install -qq --target older numpy==2.4.6 transformers==4.57.6

cat > make.py <<'PYTHON'
import json

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import GPTNeoXConfig, GPTNeoXForSequenceClassification

own = Tokenizer(models.BPE())
own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
own.train_from_iterator(
    ["How do I boil an egg? In water."],
    trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>", "<|padding|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    ),
)
own.save("model/tokenizer.json")
end = {f"{name}_token": "<|endoftext|>" for name in ("bos", "eos", "unk")}
with open("model/tokenizer_config.json", "w") as file:
    json.dump({"tokenizer_class": "GPTNeoXTokenizer", "add_prefix_space": False} | end, file)
torch.manual_seed(0)
config = GPTNeoXConfig(
    vocab_size=own.get_vocab_size(), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
    max_position_embeddings=64, bos_token_id=0, eos_token_id=0, num_labels=1, initializer_range=0.5,
)
GPTNeoXForSequenceClassification(config).save_pretrained("model")
PYTHON

cat > score.py <<'PYTHON'
import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("model")
model = AutoModelForSequenceClassification.from_pretrained("model").eval()
named = tokenizer.pad_token
if tokenizer.pad_token is None:
    tokenizer.pad_token = tokenizer.eos_token
model.config.pad_token_id = tokenizer.pad_token_id


@torch.no_grad()
def score(text):
    return model(**tokenizer(text, return_tensors="pt")).logits.item()


text = "How do I boil an egg? In water."
moved = abs(score(text + tokenizer.eos_token) - score(text))
padding = f"{named}{'' if named is None else f' ({tokenizer.pad_token_id})'}"
print(
    f"{transformers.__version__}: padding {padding}, then {tokenizer.pad_token} ({tokenizer.pad_token_id}); "
    f"end-of-text moves the score by {moved:.3f}"
)
expected = {"4": (None, False), "5": ("<|padding|>", True)}[transformers.__version__[0]]
assert (named, moved > 0.01) == expected, "no longer so"
PYTHON

export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error HF_HUB_DISABLE_PROGRESS_BARS=1
mkdir model
PYTHONPATH=older env/bin/python make.py
PYTHONPATH=older env/bin/python score.py
env -u PYTHONPATH env/bin/python score.py
