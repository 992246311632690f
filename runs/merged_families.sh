#!/usr/bin/env bash
# Every family of language models and towers, tiny: composed from the golden language models and fresh towers, trained two steps in
# all parts, merged, and read by transformers, whose features and logits are compared with ours (runs/merged_in_python.py).
#   runs/merged_families.sh [OUT]
# PYTHON names an interpreter with torch, transformers and safetensors; QTL and OUTPUTS name programs that are already built.
# OpenELM is not part of transformers, and so is not here.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/merged-families}
python=${PYTHON:-python3}
golden=${QTL_GOLDEN:-fixtures/golden}/model
target() { cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/'; }
if [ -z "${QTL:-}" ] || [ -z "${OUTPUTS:-}" ]; then
  cargo build --release --quiet
  cargo build --release --quiet -p qtl-model --example outputs
  QTL=$(target)/release/qtinyllava
  OUTPUTS=$(target)/release/examples/outputs
fi
mkdir -p "$out"
[ -d "$out/data" ] || "$QTL" data scenes --out "$out/data" --seed 5 --count 8 > "$out/log" 2>&1

trap 'echo "failed: see the end of $out/log"' ERR
set -o errtrace
failed=0
compare() { # language model, tower, connector
  local model=$1 tower=$2 connector=$3 dir=$out/$1-$2 side=56
  rm -rf "$dir"
  mkdir -p "$dir/llm"
  cp "$golden/$model"/{config.json,model.safetensors} "$dir/llm"
  "$QTL" data tokenizer --out "$dir/llm"
  cp "$golden/$tower/config.json" "$dir/vision.json"
  if [ "$tower" = vision_mof ]; then
    side=32
    # The rule of transformers 5 for position tables of another size; ours by default is that of TinyLLaVA's transformers 4.
    sed -i 's/"dinov2": {/&\n    "interpolate_offset": 0.0,/' "$dir/vision.json"
  fi
  "$QTL" compose --language-model "$dir/llm" --vision-config "$dir/vision.json" --connector "$connector" --out "$dir/base"
  sed "s/64/$side/g" recipes/demo-base/preprocessor_config.json > "$dir/base/preprocessor_config.json"
  "$QTL" train --local --model "$dir/base" --recipe recipes/demo.toml --run "$dir/run" --data "$out/data/llava.json" \
    --set train.steps=2 --set train.batch=2 --set train.save_every=2 --set quantizer.calibration_batches=1 \
    --set 'tune.vision_tower="full"'
  "$QTL" merge --client "$dir/run" --model "$dir/base" --out "$dir/merged"
  "$OUTPUTS" "$dir/merged" "$dir/outputs.safetensors"
}
pair() {
  compare "$@" >> "$out/log" 2>&1
  "$python" runs/merged_in_python.py "$out/$1-$2/merged" "$out/$1-$2/outputs.safetensors" || failed=1
}
pair llm_llama vision_siglip mlp2x_gelu
pair llm_qwen2_tied vision_clip linear
pair llm_qwen2_untied vision_dinov2 linear
pair llm_phi vision_siglip mlp2x_gelu
pair llm_gemma vision_clip resampler
pair llm_stablelm vision_dinov2 mlp2x_gelu
pair llm_stablelm_qkvbias vision_mof mof_mlp
exit $failed
