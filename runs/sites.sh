#!/usr/bin/env bash
# Four sites that train one model over mutual TLS on this machine, each on pictures of its own that lack a third of the objects, in rounds and in
# turns, with their own halves or averaged every 1, 10 and 100 steps; beside one client that has all pictures. Accuracy of each
# merged model on 400 scenes, and the bytes that crossed, over the seeds. A round is a micro-batch of 2 of each site and one optimizer step, so
# all settings see the same number of samples but for turns, whose batch is 8.
#
#   runs/sites.sh [OUT]          runs/sites by default; 3 seeds; about 3 minutes a setting and seed on 2 cores
#   SEEDS=1 STEPS=100 runs/sites.sh /tmp/sites     a short look
#
# QTL is the program, SETTINGS those that are run. Settings that have a scores.json are not repeated.
set -euo pipefail
cd "$(dirname "$0")/.."
qtl=${QTL:-target/release/qtinyllava}
[ -x "$qtl" ] || cargo build --release --quiet
out=${1:-runs/sites}
steps=${STEPS:-1000}
names=(site-1 site-2 site-3 site-4)
base=$PWD/crates/qtinyllava/assets/demo-base
mkdir -p "$out"
[ -d "$out/test" ] || $qtl data scenes --out "$out/test" --split test --relations --seed 102 --count 400 > /dev/null
[ -d "$out/train" ] || $qtl data scenes --out "$out/train" --relations --sites 4 --seed 101 --count "${COUNT:-4000}" > /dev/null
if [ ! -f "$out/roster.toml" ]; then
  for name in "${names[@]}"; do
    key=$($qtl certs --out "$out/certs" --client "$name" | grep -oE 'its key is [0-9a-f]{64}' | cut -d' ' -f4)
    printf '[[site]]\nname = "%s"\nkeys = ["%s"]\n' "$name" "$key" >> "$out/roster.toml"
  done
fi
score() { # RUN CLIENT... : merges and scores
  local run=$1; shift
  local args=(); for c in "$@"; do args+=(--client "$c"); done
  [ $# -gt 1 ] && args+=(--average)
  rm -rf "$run/merged"
  $qtl merge "${args[@]}" --server "$run/server" --model "$base" --out "$run/merged" > /dev/null
  $qtl eval --model "$run/merged" --data "$out/test" --json "$run/scores.json" > "$run/scores.txt" 2> "$run/eval.log"
  rm -rf "$run/merged"
}
run_sites() { # RUN SEED SET...
  local run=$1 seed=$2; shift 2
  local set=(--set "train.steps=$steps" --set "train.save_every=$steps" --set "seed=$seed")
  for s in "$@"; do set+=(--set "$s"); done
  mkdir -p "$run"
  { cat recipes/demo.toml; printf '\n[sites]\ncount = 4\n'; } > "$run/recipe.toml"
  $qtl serve --model "$base" --recipe "$run/recipe.toml" "${set[@]}" --run "$run/server" --sites "$out/roster.toml" \
    --listen 127.0.0.1:0 --tls "$out/certs/server" --once --quiet > "$run/serve.txt" 2> "$run/serve.log" &
  local server=$! address=""
  while [ -z "$address" ]; do sleep 0.2; kill -0 $server; address=$(grep -oE '127.0.0.1:[0-9]+' "$run/serve.txt" || true); done
  local clients=()
  for name in "${names[@]}"; do
    $qtl train --model "$base" --recipe "$run/recipe.toml" "${set[@]}" --run "$run/$name" --connect "$address" \
      --tls "$out/certs/$name" --data "$out/train/$name.json" ${SHARE:+--share "$SHARE"} \
      > /dev/null 2> "$run/$name.log" &
    clients+=($!)
  done
  for client in "${clients[@]}"; do wait "$client"; done
  wait $server
  score "$run" "${names[@]/#/$run/}"
}
for seed in $(seq 1 "${SEEDS:-3}"); do
  for setting in ${SETTINGS:-one rounds turns average1 average10 average100}; do
    run="$out/$setting-seed$seed"
    [ -f "$run/scores.json" ] && continue
    echo "== $run" >&2
    rm -rf "$run"
    case $setting in
      one)
        $qtl train --local --model "$base" --recipe recipes/demo.toml --set "train.steps=$steps" --set "train.save_every=$steps" \
          --set "seed=$seed" --run "$run" --data "$out/train/llava.json" > /dev/null 2> "$run.log"
        score "$run" "$run" ;;
      rounds) run_sites "$run" "$seed" train.batch=2 ;;
      turns) run_sites "$run" "$seed" sites.mode=turns ;;
      average*) SHARE=connector,quantizer run_sites "$run" "$seed" train.batch=2 "sites.average_every=${setting#average}" ;;
    esac
  done
done
python3 - "$out" <<'P'
import glob, json, os, statistics, sys
out = sys.argv[1]
forms = ["pope", "vqa", "mme", "gqa", "caption"]
rows = {}
for path in sorted(glob.glob(f"{out}/*/scores.json")):
    run = os.path.dirname(path)
    setting = os.path.basename(run).rsplit("-seed", 1)[0]
    # The first table of what `eval` prints: a form per line, its headline last.
    lines = [line.split() for line in open(f"{run}/scores.txt")]
    scores = {}
    for words in lines:
        if words and words[0] in forms and words[0] not in scores:
            scores[words[0]] = float(words[-1])
    up = down = 0
    for metrics in glob.glob(f"{run}/metrics.jsonl") + glob.glob(f"{run}/*/metrics.jsonl"):
        for line in open(metrics):
            record = json.loads(line)
            up += record["bytes_up"]
            down += record["bytes_down"]
    rows.setdefault(setting, []).append([scores.get(form, float("nan")) for form in forms] + [up / 1e6, down / 1e6])
print("| setting | seeds | " + " | ".join(forms) + " | MB up | MB down |\n|---|" + "---:|" * (len(forms) + 3))
for setting, of in rows.items():
    cells = []
    for column in zip(*of):
        spread = f" ± {statistics.stdev(column):.1f}" if len(column) > 1 else ""
        cells.append(f"{statistics.mean(column):.1f}{spread}")
    print(f"| {setting} | {len(of)} | " + " | ".join(cells) + " |")
P
