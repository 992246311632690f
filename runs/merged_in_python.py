#!/usr/bin/env python3
"""Does Python read what `qtinyllava merge` wrote, and does it compute the same?

    pip install torch transformers safetensors
    cargo run --release -p qtl-model --example outputs -- DIR OUT.safetensors
    python runs/merged_in_python.py DIR OUT.safetensors

Reads the directory as transformers does: config.json's text_config and vision_config into the classes of transformers, the
weights (one file or shards) by TinyLLaVA's prefixes; any name or shape that differs ends it. Then the vision tower's features
of a picture and the language model's logits of twelve tokens are compared with those in OUT.safetensors. Language models
and towers that are part of transformers; OpenELM is not.
"""
import json
import sys
import tempfile
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, CLIPVisionModel, Dinov2Model, SiglipVisionModel

TOWERS = {"siglip_vision_model": SiglipVisionModel, "clip_vision_model": CLIPVisionModel, "dinov2": Dinov2Model}
# Parts of the classes that TinyLLaVA's models do not use: what comes after the last block.
UNUSED = ("vision_model.post_layernorm", "vision_model.head", "post_layernorm", "head", "layernorm")
TOLERANCE = 1e-4


def weights(folder):
    index = folder / "model.safetensors.index.json"
    names = {"model.safetensors"}
    if index.exists():
        names = set(json.loads(index.read_text())["weight_map"].values())
    tensors, types = {}, set()
    for name in sorted(names):
        with safe_open(folder / name, "pt") as file:
            assert file.metadata() == {"format": "pt"}, file.metadata()
            for key in file.keys():
                value = file.get_tensor(key)
                types.add(str(value.dtype).removeprefix("torch."))
                tensors[key] = value.float()
    return len(names), types, tensors


def below(tensors, prefix):
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def config(fields):
    fields = {**fields, "dtype": None, "torch_dtype": None}
    return AutoConfig.for_model(fields.pop("model_type"), **fields)


def accept(model, tensors, optional=()):
    if not set(model.state_dict()) & set(tensors):  # transformers 5 dropped a level of the towers' names
        tensors = below(tensors, "vision_model.")
    missing, surplus = model.load_state_dict(tensors, strict=False)
    missing = [key for key in missing if not key.startswith(tuple(optional))]
    assert not missing and not surplus, (missing, surplus)
    return model.float().eval()


def read_tower(fields, tensors):
    """Through from_pretrained, which knows what later versions of transformers call the same parameters."""
    made = config(fields)
    with tempfile.TemporaryDirectory() as place:
        made.save_pretrained(place)
        save_file({key: value.contiguous() for key, value in tensors.items()}, f"{place}/model.safetensors", {"format": "pt"})
        model, info = TOWERS[made.model_type].from_pretrained(place, output_loading_info=True)
    optional = UNUSED + ("embeddings.mask_token",)
    missing = [key for key in info["missing_keys"] if not key.startswith(optional)]
    assert not missing and not info["unexpected_keys"] and not info["mismatched_keys"], (missing, info)
    return model.float().eval()


def difference(what, got, want):
    assert got.shape == want.shape, (what, got.shape, want.shape)
    off = float((got - want).abs().max() / want.abs().max())
    print(f"{what}: {list(got.shape)}, off by at most {off:.1e} of the largest")
    return off


folder = Path(sys.argv[1])
whole = json.loads((folder / "config.json").read_text())
assert whole["model_type"] == "tinyllava" and whole["architectures"] == ["TinyLlavaForConditionalGeneration"]
files, types, tensors = weights(folder)
assert types == {whole["torch_dtype"]} == {whole["text_config"]["torch_dtype"]}, types

text = config(whole["text_config"])
state = below(tensors, "language_model.")
untied = "lm_head.weight" in state
assert text.tie_word_embeddings != untied, "config.json and the file disagree about the head"
llm = AutoModelForCausalLM.from_config(text)
accept(llm, state, [] if untied else ["lm_head."])
llm.tie_weights()
parted = untied and not torch.equal(state["lm_head.weight"], state["model.embed_tokens.weight"])

# A mixture of features is two towers on the same pictures, their features side by side.
fields, state = whole["vision_config"], below(tensors, "vision_tower._vision_tower.")
parts = [(fields, state)]
if fields["model_type"] == "mof":
    parts = [(fields[part], below(state, part + ".")) for part in ("clip", "dinov2")]
towers = []
for part, state in parts:
    towers.append(read_tower(part, state))
side = towers[0].config.image_size
c, y, x = torch.meshgrid(torch.arange(3), torch.arange(side), torch.arange(side), indexing="ij")
pixels = ((7 * c + 3 * y + x) % 11) / 5.0 - 1.0
with torch.no_grad():
    chosen = []
    for tower in towers:
        resized = {"interpolate_pos_encoding": True} if tower.config.image_size != side else {}
        states = tower(pixels[None], output_hidden_states=True, **resized).hidden_states
        chosen.append(states[whole["vision_feature_layer"]][0])
    features = torch.cat(chosen, -1)
    logits = llm(torch.arange(12)[None]).logits[0]
if whole.get("vision_feature_select_strategy", "patch") == "patch":
    features = features[1:]

rest = {key.split(".")[0] for key in tensors} - {"language_model", "vision_tower"}
print(f"{folder}: {files} file(s), {len(tensors)} tensors of {', '.join(types)}; {text.model_type} and {fields['model_type']},",
      f"head {'untied' if untied else 'tied'}{', unlike the token embedding' if parted else ''}; besides: {', '.join(sorted(rest))}")
ours = load_file(sys.argv[2])
off = [difference("features", features, ours["features"]), difference("logits", logits, ours["logits"])]
sys.exit(max(off) > TOLERANCE)
