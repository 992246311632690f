#!/usr/bin/env python3
"""Loads an adapter of `qtinyllava merge --adapter` with peft and compares it with the merged weights.

    pip install torch transformers peft safetensors
    python runs/peft_check.py BASE ADAPTER MERGED

BASE, MERGED: model directories in TinyLLaVA's layout with a Llama language model; ADAPTER: what `merge --adapter`
wrote. Prints the largest differences between logits: the adapter on the base against the merged model (should vanish),
and the bare base against the merged model (should not). Then peft saves the adapter again, as ADAPTER-resaved.
"""
import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

PREFIX = "language_model."


def language_model(folder: Path) -> LlamaForCausalLM:
    config = json.loads((folder / "config.json").read_text())["text_config"]
    model = LlamaForCausalLM(LlamaConfig(**{**config, "torch_dtype": None, "dtype": None}))
    part = folder / "language_model"
    tensors = {}
    for file in sorted((part if part.is_dir() else folder).glob("*.safetensors")):
        tensors.update(load_file(file))
    whole = any(name.startswith(PREFIX) for name in tensors)
    state = {
        name.removeprefix(PREFIX): value.float()
        for name, value in tensors.items()
        if not whole or name.startswith(PREFIX)
    }
    missing, surplus = model.load_state_dict(state, strict=False)
    assert not surplus and set(missing) <= {"lm_head.weight"}, (missing, surplus)
    model.tie_weights()
    return model.float().eval()


def main() -> None:
    base, adapter, merged = map(Path, sys.argv[1:4])
    plain, want = language_model(base), language_model(merged)
    torch.manual_seed(0)
    ids = torch.randint(0, plain.config.vocab_size, (2, 24))
    with torch.no_grad():
        bare, target = plain(ids).logits, want(ids).logits
        tuned = PeftModel.from_pretrained(plain, adapter / "language_model").eval()
        got = tuned(ids).logits
    print(f"largest logit {target.abs().max():.3f}")
    print(f"adapter on the base - merged model: {(got - target).abs().max():.2e}")
    print(f"bare base - merged model: {(bare - target).abs().max():.2e}")
    again = adapter.with_name(adapter.name + "-resaved")
    tuned.save_pretrained(again / "language_model")
    print(f"wrote {again}")


main()
