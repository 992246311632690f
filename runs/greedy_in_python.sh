#!/usr/bin/env bash
# `chat` and transformers on the same models, 60 greedy answers each:
#   quantized   the demo's base after a few steps with the demo's quantizers, with the modeling_qtinyllava.py beside it
#   components  the same with quantizers of few components: pca and vq, rvq and pq
#   inside, end, before  the same with the cut behind the first block, with the labels and the last block at the client, and in front of
#               the connector
#   plain       a model without quantizers, as a plain LLaVA
#   folded      one with quantizers, as a plain LLaVA: rounding is left out there, so that answers may differ; how many is printed
# and the adapter of a run in peft, on the base that it names.
#   runs/greedy_in_python.sh [OUT]
# PYTHON names an interpreter with torch, transformers, peft, safetensors and pillow; QTL a program that is already built; STEPS is
# how long the plain model is trained: the demo's base divides what its connector gives by its root mean square, for which a plain
# LLaVA has no place, so it goes on without.
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
trap 'echo "failed: see the end of $out/log"' ERR
[ -d "$out/test" ] || "$QTL" data scenes --out "$out/test" --split test --seed 102 --count 12 > "$out/log" 2>&1
[ -d "$out/train" ] || "$QTL" data scenes --out "$out/train" --seed 5 --count 500 >> "$out/log" 2>&1
tuned() { # name, base, steps, more flags: trained, and merged into name-merged
  local name=$1 from=$2 steps=$3; shift 3
  rm -rf "$out/$name"
  "$QTL" train --local --model "$from" --recipe recipes/demo.toml --run "$out/$name" --data "$out/train/llava.json" \
    --set "train.steps=$steps" --set "train.save_every=$steps" --set quantizer.calibration_batches=4 "$@" >> "$out/log" 2>&1
  "$QTL" merge --client "$out/$name" --model "$from" --out "$out/$name-merged" >> "$out/log" 2>&1
}
same() { "$python" runs/greedy_in_python.py "$1" "$2" "$out/test" "$QTL" 2>> "$out/log"; }
failed=0

tuned quantized "$base" 20
same "$out/quantized-merged" "$out/quantized-merged" || failed=1

components() { # name, image quantizer, text quantizer
  tuned "$1" "$base" 20 --set "quantizer.image=$2" --set "quantizer.text=$3"
  same "$out/$1-merged" "$out/$1-merged" || failed=1
}
components pca-vq "{kind='pca', dims=32, bits=48.0}" "{kind='vq', dims=64, codes=128}"
components rvq-pq "{kind='rvq', dims=32, stages=3, codes=64}" "{kind='pq', dims=64, groups=8, codes=100}"
tuned before "$base" 20 --set split.connector=server
same "$out/before-merged" "$out/before-merged" || failed=1
tuned inside "$base" 20 --set split.bottom_blocks=1
same "$out/inside-merged" "$out/inside-merged" || failed=1
tuned end "$base" 20 --set 'split.labels="client"' --set split.top_blocks=1 --set 'quantizer.hidden={kind="fsq", levels=8, width=2.5}'
same "$out/end-merged" "$out/end-merged" || failed=1

rm -rf "$out/base" && cp -r "$base" "$out/base"
sed -i 's/"connector_norm": true/"connector_norm": false/' "$out/base/config.json"
tuned plain "$out/base" "${STEPS:-300}" --set 'quantizer.image={kind="none"}' --set 'quantizer.text={kind="none"}'
"$QTL" export --to llava --model "$out/plain-merged" --out "$out/plain-llava" --data "$out/test" 2>> "$out/log"
same "$out/plain-merged" "$out/plain-llava" || failed=1
tuned folded "$out/plain-merged" 20
"$QTL" export --to llava --model "$out/folded-merged" --out "$out/folded-llava" --data "$out/test" 2>> "$out/log"
same "$out/folded-merged" "$out/folded-llava" || true

tuned lora "$base" 20 --set 'tune.llm={kind="lora", rank=4, alpha=8}' --set 'tune.embed_tokens="frozen"'
"$QTL" merge --client "$out/lora" --model "$base" --adapter --out "$out/adapter" >> "$out/log"
"$python" - "$out/adapter/language_model" <<'P' 2>> "$out/log" || failed=1
import sys
from peft import AutoPeftModelForCausalLM
model = AutoPeftModelForCausalLM.from_pretrained(sys.argv[1])
branches = sum("lora_B" in name and bool(value.abs().max() > 0) for name, value in model.named_parameters())
print(f"peft loads {model.peft_config['default'].base_model_name_or_path}, which the adapter names: {branches} trained branches")
sys.exit(branches == 0)
P
exit $failed
