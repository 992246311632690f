#!/usr/bin/env python3
"""Does Python accept what `qtinyllava merge` wrote?  pip install torch transformers safetensors
    python runs/merged_in_python.py DIR
Reads the directory as transformers does: config.json's text_config and vision_config through AutoConfig, the weights (one
file or shards) below TinyLLaVA's three prefixes into the classes of transformers. Fails on any name or shape that differs."""
import json
import pathlib
import sys

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, CLIPVisionModel, Dinov2Model, SiglipVisionModel

TOWERS = {"siglip_vision_model": SiglipVisionModel, "clip_vision_model": CLIPVisionModel, "dinov2": Dinov2Model}


def weights(folder):
    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    else:
        files = ["model.safetensors"]
    tensors = {}
    for name in files:
        with safe_open(folder / name, "pt") as file:
            assert file.metadata() == {"format": "pt"}, file.metadata()
            tensors.update({key: file.get_tensor(key).float() for key in file.keys()})
    return files, tensors


def below(tensors, prefix):
    return {key[len(prefix):]: value for key, value in tensors.items() if key.startswith(prefix)}


def config(fields):
    fields = dict(fields)
    return AutoConfig.for_model(fields.pop("model_type"), **fields)


def accept(model, tensors, optional=()):
    """Strict, but for parts of the class that TinyLLaVA's models do not have."""
    own = set(model.state_dict())
    if not own & set(tensors):  # transformers 5 dropped a level of the towers' names
        tensors = {key.removeprefix("vision_model."): value for key, value in tensors.items()}
    missing, surplus = model.load_state_dict(tensors, strict=False)
    missing = [key for key in missing if not key.startswith(optional)] if optional else missing
    assert not missing and not surplus, (missing, surplus)
    return model.eval()


folder = pathlib.Path(sys.argv[1])
whole = json.loads((folder / "config.json").read_text())
assert whole["model_type"] == "tinyllava" and whole["architectures"] == ["TinyLlavaForConditionalGeneration"]
files, tensors = weights(folder)

text = config(whole["text_config"])
llm = AutoModelForCausalLM.from_config(text)
state = below(tensors, "language_model.")
tied = text.tie_word_embeddings
assert tied == ("lm_head.weight" not in state), "config.json and the file disagree about the head"
if tied:
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
accept(llm, state)
with torch.no_grad():
    logits = llm(torch.arange(8)[None]).logits
assert torch.isfinite(logits).all()

vision = config(whole["vision_config"])
# The pooling head and the norm after the last block are not used and not written.
unused = ("vision_model.post_layernorm", "vision_model.head", "post_layernorm", "head", "layernorm")
tower = accept(TOWERS[vision.model_type](vision), below(tensors, "vision_tower._vision_tower."), unused)
with torch.no_grad():
    side = vision.image_size
    states = tower(torch.zeros(1, 3, side, side), output_hidden_states=True).hidden_states
assert torch.isfinite(states[whole["vision_feature_layer"]]).all()
rest = [key for key in tensors if not key.startswith(("language_model.", "vision_tower._vision_tower."))]
print(f"{folder}: {len(files)} file(s), {len(tensors)} tensors; {text.model_type} and {vision.model_type} accepted,",
      f"head {'tied' if tied else 'untied'}, besides: {', '.join(sorted({key.split('.')[0] for key in rest}))}")
