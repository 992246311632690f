#!/usr/bin/env python3
"""Do the connectors of modeling_qtinyllava.py compute what the golden cases say?

    pip install torch transformers safetensors
    runs/modeling_check.py [GOLDEN]
"""
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root / "crates/train/assets"))
from modeling_qtinyllava import Connector  # noqa: E402

golden = Path(sys.argv[1]) if len(sys.argv) > 1 else root / "fixtures/golden"
cases = sorted((golden / "model").glob("connector_*"))
failed = not cases
for case in cases:
    config = json.loads((case / "config.json").read_text())
    tensors = load_file(case / "io.safetensors")
    inputs = [value for key, value in sorted(tensors.items()) if key.startswith("in.features")]
    features = torch.cat(inputs, -1)
    connector = Connector(SimpleNamespace(**config), features.shape[-1], config["hidden_size"])
    values = load_file(case / "model.safetensors")
    connector.load_state_dict({key: value for key, value in values.items() if not key.endswith("position_ids")})
    with torch.no_grad():
        out = connector(features)
    off = float((out - tensors["out.features"]).abs().max())
    failed |= not off < 1e-5
    print(f"{case.name}: off by at most {off:.1e}")
sys.exit(failed)
