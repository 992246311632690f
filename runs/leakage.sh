#!/usr/bin/env bash
# What a server can learn from the demo's features: every attack of `qtinyllava leakage` on the demo trained with 32-bit and 16-bit
# features, 16, 8, 4 and 2 levels per channel, the paper's 4 levels, topk, splitfc and fedbat. A table of means and deviations over seeds.
#
#   runs/leakage.sh [OUT]            3 seeds, 10 minutes of attacks each; runs/leakage by default
#   runs/leakage.sh --quick [OUT]    one seed, 300 steps of training, 200 victims, 3,000 auxiliary scenes, an insider; ends after LIMIT minutes
#                                    (40), whatever it has come to: the time that is left is shared by the settings that are left,
#                                    and what had none is named. The same command again goes on
#   runs/leakage.sh --check [OUT]    instead: the attacks where they must succeed, with thresholds; fails if one does not
#
# An attacker that had no time to learn stands as "-" in the table, not as one that failed.
# Runs that are there are not repeated, and one that was stopped goes on. QTL is the program, SEEDS the number of seeds, SETTINGS a
# choice of settings, MINUTES the budget of the attacks on one run.
set -euo pipefail
cd "$(dirname "$0")/.."
qtl=${QTL:-cargo run --release --quiet --}
mode=full
case "${1:-}" in --quick | --check) mode=${1#--}; shift ;; esac
out=${1:-runs/leakage}
mkdir -p "$out"
ends=$((SECONDS + 60 * ${LIMIT:-40}))
# Where time is limited, a program is stopped when all of it is over; what it has is kept.
limited() {
  [ "$mode" = quick ] || { "$@"; return; }
  timeout --signal=INT --kill-after=30 $((ends > SECONDS ? ends - SECONDS : 1)) "$@"
}
[ "$mode" != quick ] || AUXILIARY=${AUXILIARY:-3000}
scenes() { [ -f "$out/$1/generated.json" ] || $qtl data scenes --out "$out/$1" --seed "$2" --count "$3" > /dev/null; }
scenes victims 301 400
scenes auxiliary 302 "${AUXILIARY:-8000}"
victims=$out/victims/llava.json auxiliary=$out/auxiliary/llava.json

if [ "$mode" = check ]; then
  base=crates/qtinyllava/assets/demo-base
  attack() { # attack, minutes, further arguments
    echo "== $1" >&2
    $qtl leakage --model "$base" --recipe recipes/demo.toml --data "$victims" --auxiliary "$auxiliary" --attack "$1" --budget "$2" \
      --victims 200 --out "$out/check-$1" "${@:3}" > "$out/check-$1.txt"
  }
  attack collage 1 --levels 2
  attack inverse 16 # half of it for the recipe's own quantizers, half for 32 bits
  python3 runs/leakage.py check "$out"
  exit
fi

fsq() { echo "{kind='fsq',levels=$1,width=$2,statistics='channel',penalty=0.02}"; }
declare -A both=(
  [exact]="{kind='exact'}" [none]="{kind='none'}" [fsq16]=$(fsq 16 3.0) [fsq8]=$(fsq 8 2.05) [fsq4]=$(fsq 4 1.5) [fsq2]=$(fsq 2 0.8)
  [paper4]="{kind='fsq',levels=4,statistics='batch',penalty=0.25}"
  [topk]="{kind='topk',keep=0.125}" [splitfc]="{kind='splitfc',bits=2}" [fedbat]="{kind='fedbat'}"
)
seeds=${SEEDS:-3} minutes=${MINUTES:-10} demo=()
[ "$mode" = full ] || { seeds=${SEEDS:-1} demo=(--set train.steps=300 --test-scenes 100); }
read -ra names <<< "${SETTINGS:-exact none fsq16 fsq8 fsq4 fsq2 paper4 topk splitfc fedbat}"
left=$((seeds * ${#names[@]})) missing=()
for seed in $(seq 1 "$seeds"); do
  for name in "${names[@]}"; do
    run="$out/$name-seed$seed" began=$SECONDS share=$(((ends - SECONDS) / left))
    left=$((left - 1))
    [ -f "$run/attacks/leakage.json" ] && continue
    if [ "$mode" = quick ] && [ "$share" -lt 5 ]; then
      missing+=("$name-seed$seed")
      continue
    fi
    if [ ! -f "$run/demo/summary.json" ]; then
      echo "== $run: training" >&2
      # shellcheck disable=SC2086 # words of qtl are a command
      limited $qtl demo --out "$run/demo" --set "quantizer.image=${both[$name]}" --set "quantizer.text=${both[$name]}" \
        --set "seed=$seed" "${demo[@]}" > /dev/null || { [ "$mode" = quick ] && missing+=("$name-seed$seed") && continue; exit 1; }
    fi
    if [ "$mode" = quick ]; then
      # Nine tenths of what training has left of the share: reading and judging take time beside.
      minutes=${MINUTES:-$(awk -v s=$((share - SECONDS + began)) 'BEGIN { print (s > 20 ? s : 20) * 0.9 / 60 }')}
    fi
    # A quick run tries the insider alone: attackers then have four times the steps.
    base=(--base "$run/demo/base")
    [ "$mode" = full ] || base=()
    echo "== $run: attacks, $minutes minutes" >&2
    # shellcheck disable=SC2086
    limited $qtl leakage --model "$run/demo/checkpoint" --no-exact "${base[@]}" --data "$victims" --auxiliary "$auxiliary" \
      --budget "$minutes" --victims 200 --seed "$seed" --out "$run/attacks" > "$run/attacks.txt" \
      || { [ "$mode" = quick ] && missing+=("$name-seed$seed") && continue; exit 1; }
  done
done
[ ${#missing[@]} = 0 ] || echo "no time for: ${missing[*]}; the same command goes on with them" >&2
python3 runs/leakage.py table "$out"
