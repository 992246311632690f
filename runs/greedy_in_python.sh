#!/usr/bin/env bash
# `chat` and transformers on the same models, 60 greedy answers each: the demo's base, which has no quantizers, as a plain LLaVA;
# the same after a few steps with the demo's quantizers, with modeling_qtinyllava.py and, its quantizers folded, as a plain LLaVA;
# and the adapter of a run in peft, loaded from the base that it names.
#   runs/greedy_in_python.sh [OUT]
# PYTHON names an interpreter with torch, transformers, peft, safetensors and pillow; QTL a program that is already built.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/greedy-in-python}
python=${PYTHON:-python3}
base=crates/qtinyllava/assets/demo-base
if [ -z "${QTL:-}" ]; then
  cargo build --release --quiet
  QTL=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/qtinyllava
fi
mkdir -p "$out"
[ -d "$out/test" ] || "$QTL" data scenes --out "$out/test" --split test --seed 102 --count 12 > "$out/log" 2>&1
[ -d "$out/train" ] || "$QTL" data scenes --out "$out/train" --seed 5 --count 64 >> "$out/log" 2>&1
run() { # name, more flags
  local name=$1; shift
  rm -rf "$out/$name"
  "$QTL" train --local --model "$base" --recipe recipes/demo.toml --run "$out/$name" --data "$out/train/llava.json" \
    --set train.steps=20 --set train.save_every=20 --set quantizer.calibration_batches=4 "$@" >> "$out/log" 2>&1
}
run run
"$QTL" merge --client "$out/run" --model "$base" --out "$out/merged" >> "$out/log"
"$QTL" export --to llava --model "$base" --out "$out/plain" --data "$out/test" 2>> "$out/log"
"$QTL" export --to llava --model "$out/merged" --out "$out/folded" --data "$out/test" 2>> "$out/log"
failed=0
"$python" runs/greedy_in_python.py "$base" "$out/plain" "$out/test" "$QTL" 2>> "$out/log" || failed=1
"$python" runs/greedy_in_python.py "$out/merged" "$out/merged" "$out/test" "$QTL" 2>> "$out/log" || failed=1
# Rounding is left out there, so that answers may differ; how many is what it prints.
"$python" runs/greedy_in_python.py "$out/merged" "$out/folded" "$out/test" "$QTL" 2>> "$out/log" || true
run lora --set 'tune.llm={kind="lora", rank=4, alpha=8}' --set 'tune.embed_tokens="frozen"'
"$QTL" merge --client "$out/lora" --model "$base" --adapter --out "$out/adapter" >> "$out/log"
"$python" - "$out/adapter/language_model" <<'P' 2>> "$out/log" || failed=1
import sys
from peft import AutoPeftModelForCausalLM
model = AutoPeftModelForCausalLM.from_pretrained(sys.argv[1])
branches = sum("lora_B" in name and bool(value.abs().max() > 0) for name, value in model.named_parameters())
print(f"peft loads the base that the adapter names, {model.peft_config['default'].base_model_name_or_path}: {branches} trained branches")
sys.exit(branches == 0)
P
exit $failed
