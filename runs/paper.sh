#!/usr/bin/env bash
# The paper's tables.
#   runs/paper.sh [OUT]             at the demo's scale: quantizers x bits x question forms, 3 seeds (runs/bits.sh), the same model
#                                   before blank pictures, and bytes and seconds of a pass over its training data
#   runs/paper.sh --full            says what to download and which commands make the real run and its tables
#   runs/paper.sh --dry [OUT]       the real run's every step at full size, 8 samples, random weights: pretrain, finetune, merge,
#                                   all benchmarks on miniatures of their folders, tables. 12 GB of disk, some minutes
#   runs/paper.sh --smoke [OUT]     does all of the above run? Both at the smallest scale: few steps, one seed, two methods, a tiny
#                                   model of the same kinds. A minute; its numbers say nothing
# QTL is the program; SEEDS and DEMO as in runs/bits.sh, METHODS the rows of the table. CONFIG names a directory with another
# config.json for --dry, such as that of a smaller model.
set -euo pipefail
cd "$(dirname "$0")/.."
qtl=${QTL:-cargo run --release --quiet --}
benchmarks=(vqav2 gqa scienceqa textvqa mmvet pope mme mmmu)

suite() { # folder of the benchmarks' folders
  for name in "${benchmarks[@]}"; do
    printf '[[benchmark]]\nname = "%s"\ndir = "%s/%s"\n' "$name" "$1" "$name"
  done
}

full() {
  cat <<'TEXT'
# Models: apple/OpenELM-270M-Instruct with the tokenizer of meta-llama/Llama-2-7b-hf, google/siglip-so400m-patch14-384,
# put together as one directory `base` in TinyLLaVA's layout (config.json as in recipes/full-size).
# Data, as LLaVA-1.5 lists it: blip_laion_cc_sbu_558k.json with its pictures; llava_v1_5_mix665k.json with those of COCO
# train2017, GQA, OCR-VQA, TextVQA and Visual Genome.
# Benchmarks, each in its own folder below eval/ as LLaVA's evaluation lays them out, with LLaVA's question files:
#   vqav2 gqa scienceqa textvqa mmvet pope mme mmmu
# On each side, with one recipe on both:
qtinyllava certs --out certs --server-name SERVER
# server: stage 1, then stage 2
qtinyllava serve --model base --recipe recipes/openelm-siglip-fsq2.pretrain.toml --run pretrain/server --listen 0.0.0.0:7443 --tls certs/server --once
qtinyllava serve --model stage1 --recipe recipes/openelm-siglip-fsq2.finetune.toml --run finetune/server --listen 0.0.0.0:7443 --tls certs/server --once
# client
qtinyllava train --model base --recipe recipes/openelm-siglip-fsq2.pretrain.toml --run pretrain/client --connect SERVER:7443 --tls certs/client \
  --data blip_laion_cc_sbu_558k.json --images pretrain-images
qtinyllava train --model stage1 --recipe recipes/openelm-siglip-fsq2.finetune.toml --run finetune/client --connect SERVER:7443 --tls certs/client \
  --data llava_v1_5_mix665k.json --images finetune-images
# after each stage, where both halves are
qtinyllava merge --client pretrain/client --server pretrain/server --model base --out stage1
qtinyllava merge --client finetune/client --server finetune/server --model stage1 --out model
# Other quantizers and bits: --set quantizer.image="{kind='fsq', levels=8, width=3.0, statistics='batch', penalty=0.25}" on all
# four commands, and the same for quantizer.text; the kinds of the table are in runs/bits.sh.
# Tables: accuracy, bytes and seconds
qtinyllava eval --checkpoint model --suite tables.toml --json table.json --latex table.tex --page table.html --submissions upload
qtinyllava bench communication --model base --recipe recipes/openelm-siglip-fsq2.finetune.toml --data llava_v1_5_mix665k.json \
  --images finetune-images --link 100mbit,20ms
# tables.toml:
TEXT
  suite eval
}

dry() {
  local out=$1 config=${CONFIG:-recipes/full-size}
  mkdir -p "$out"
  out=$(cd "$out" && pwd)
  rm -rf "$out"/{start,base,data,captions,pretrain,stage1,finetune,model,eval}
  mkdir "$out/start"
  cp "$config/config.json" "$out/start"
  # A tokenizer that knows every word: the benchmarks' prompts have more than the scenes'.
  cp fixtures/golden/data/tokenizers/spm_llama/{tokenizer,tokenizer_config,special_tokens_map}.json "$out/start"
  $qtl data random-model --config "$out/start" --out "$out/base"
  $qtl data scenes --out "$out/data" --seed 7 --count 8
  # Stage 1 learns from captions.
  $qtl data scenes --out "$out/captions" --split test --seed 7 --count 8
  python3 - "$out/captions" <<'PYTHON'
import json, sys
folder = sys.argv[1]
talk = lambda e: [{"from": "human", "value": "Describe the image.\n<image>"}, {"from": "gpt", "value": e["caption"]}]
entries = json.load(open(f"{folder}/captions.json"))
json.dump([{"id": str(e["id"]), "image": e["image"], "conversations": talk(e)} for e in entries], open(f"{folder}/llava.json", "w"))
PYTHON
  stage() { # name, data, model, result
    $qtl train --local --model "$3" --recipe "recipes/openelm-siglip-fsq2.$1.toml" --run "$out/$1" --data "$out/$2/llava.json" \
      --set train.steps=2 --set train.batch=2 --set train.accumulate=2 --set train.save_every=2
    $qtl merge --client "$out/$1" --model "$3" --out "$4"
  }
  stage pretrain captions "$out/base" "$out/stage1"
  stage finetune data "$out/stage1" "$out/model"
  for name in "${benchmarks[@]}"; do
    $qtl data benchmark "$name" --out "$out/eval/$name" --count 1
  done
  suite eval > "$out/tables.toml"
  # Random weights never end an answer.
  $qtl eval --checkpoint "$out/model" --suite "$out/tables.toml" --limit 2 --longest 4 --json "$out/table.json" \
    --latex "$out/table.tex" --page "$out/table.html" --submissions "$out/upload"
  $qtl bench communication --model "$out/base" --recipe recipes/openelm-siglip-fsq2.finetune.toml --set train.batch=2 \
    --data "$out/data/llava.json" --link 100mbit,20ms --batches 1 --only "fsq levels=4 statistics=batch"
}

demo() {
  local out=$1
  # shellcheck disable=SC2086 # words of METHODS are arguments
  runs/bits.sh "$out" ${METHODS:-}
  if [ ! -d "$out/look/checkpoint" ]; then
    # shellcheck disable=SC2086 # words of DEMO are arguments
    $qtl demo --out "$out/look" ${DEMO:-} > /dev/null
  fi
  echo "with its pictures, and with blank ones:"
  $qtl eval --checkpoint "$out/look/checkpoint" --data "$out/look/test" --answers "$out/look/seen.jsonl"
  $qtl eval --checkpoint "$out/look/checkpoint" --data "$out/look/test" --blank --answers "$out/look/blank.jsonl"
  $qtl eval --data "$out/look/test" --compare "$out/look/blank.jsonl" "$out/look/seen.jsonl"
  $qtl bench communication --model "$out/look/base" --recipe recipes/demo.toml --data "$out/look/train/llava.json" \
    --link 100mbit,20ms --batches 4 --only fsq
}

smoke() {
  local out=$1
  rm -rf "$out"
  mkdir -p "$out/config"
  # The kinds of the real run's models, a few thousand parameters of each, and the tokenizer's 2,000 words.
  python3 - fixtures/golden/model/full_openelm_siglip/config.json "$out/config/config.json" <<'PYTHON'
import json, sys
config = json.load(open(sys.argv[1]))
config["vocab_size"] = config["text_config"]["vocab_size"] = 2000
config["tokenizer_model_max_length"] = config["text_config"]["max_context_length"] = 1024
config["text_config"]["rope_max_length"] = 2048
json.dump(config, open(sys.argv[2], "w"))
PYTHON
  full > "$out/full.txt"
  CONFIG=$out/config dry "$out/dry"
  SEEDS=1 METHODS="none fsq2" DEMO="--train-scenes 40 --test-scenes 4 --set train.steps=3" demo "$out/demo"
  for made in dry/table.json dry/table.tex dry/table.html dry/upload demo/table.md demo/frontier.svg demo/look/seen.jsonl full.txt; do
    [ -s "$out/$made" ] || { echo "$out/$made was not written" >&2; exit 1; }
  done
}

case ${1:-} in
  --smoke) smoke "${2:-runs/paper-smoke}" ;;
  --full) full ;;
  --dry) dry "${2:-runs/paper-dry}" ;;
  -*) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 1 ;;
  *) demo "${1:-runs/paper}" ;;
esac
