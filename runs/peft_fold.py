#!/usr/bin/env python3
"""Makes a LoRA adapter in Python, with peft, and compares what it computes there with what we make of it.

    pip install torch transformers peft safetensors
    cargo build --release && cargo build --release -p qtl-model --example outputs
    python runs/peft_fold.py BASE OUT target/release/qtinyllava target/release/examples/outputs

BASE: a model directory in TinyLLaVA's layout, not in folders per part; OUT: a directory to write. The adapter has random factors on four
maps of each block, its scale by rsLoRA, and the token embedding as a module to save. `merge --from-adapter` folds it, `outputs`
computes the logits of twelve tokens.
"""
import json
import subprocess
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

base, out, program, outputs = map(Path, sys.argv[1:5])
fields = {**json.loads((base / "config.json").read_text())["text_config"], "dtype": None, "torch_dtype": None}
model = AutoModelForCausalLM.from_config(AutoConfig.for_model(fields.pop("model_type"), **fields))
prefix = "language_model."
state = {k.removeprefix(prefix): v.float() for k, v in load_file(base / "model.safetensors").items() if k.startswith(prefix)}
missing, surplus = model.load_state_dict(state, strict=False)
assert not surplus and set(missing) <= {"lm_head.weight"}, (missing, surplus)
model.tie_weights()
model = model.float().eval()
ids = torch.arange(12)[None]

with torch.no_grad():
    bare = model(ids).logits[0]
    targets = ["q_proj", "v_proj", "o_proj", "up_proj"]
    saved = [] if model.config.tie_word_embeddings else ["embed_tokens"]
    lora = LoraConfig(r=4, lora_alpha=6, target_modules=targets, modules_to_save=saved, use_rslora=True, task_type="CAUSAL_LM")
    tuned = get_peft_model(model, lora).eval()
    torch.manual_seed(1)
    for name, value in tuned.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            value.add_(0.05 * torch.randn_like(value))
    want = tuned(ids).logits[0]
tuned.save_pretrained(out / "adapter")
subprocess.run([program, "merge", "--model", base, "--from-adapter", out / "adapter", "--out", out / "folded"], check=True)
subprocess.run([outputs, out / "folded", out / "outputs.safetensors"], check=True)
got = load_file(out / "outputs.safetensors")["logits"]
off = float((got - want).abs().max() / want.abs().max())
print(f"folded by us - peft: {off:.1e} of the largest logit; bare base - peft: {float((bare - want).abs().max() / want.abs().max()):.1e}")
sys.exit(off > 1e-4)
