#!/usr/bin/env bash
# Accuracy against leakage: the demo trained with every defence that there is, at three strengths, and with some together, and the
# attacks of `qtinyllava leakage` on each, retrained for it. A table (table.md) and a drawing (frontier.svg).
#
#   runs/frontier.sh [OUT]            1,000 steps, 8 minutes of attacks, one seed; runs/frontier by default
#   runs/frontier.sh --quick [OUT]    150 steps, one strength of each defence; ends after LIMIT minutes (40), and names what it has not
#                                     come to. The same command again goes on
#
# Three seeds for single points: SEEDS=3 SETTINGS="none fsq2-dither" runs/frontier.sh. Runs that are there are not repeated, and one
# that was stopped goes on. QTL is the program, MINUTES the budget of the attacks on one run, ATTACKS a choice of them, DEMO further
# arguments of every `demo`.
set -euo pipefail
cd "$(dirname "$0")/.."
qtl=${QTL:-cargo run --release --quiet --}
mode=full
[ "${1:-}" != --quick ] || { mode=quick; shift; }
out=${1:-runs/frontier}
mkdir -p "$out"
ends=$((SECONDS + 60 * ${LIMIT:-40}))
limited() {
  [ "$mode" = quick ] || { "$@"; return; }
  timeout --signal=INT --kill-after=30 $((ends > SECONDS ? ends - SECONDS : 1)) "$@"
}
both() { echo "quantizer.image=$1 quantizer.text=$1"; }
fsq() { both "{kind='fsq',levels=$1,width=$2,statistics='channel',penalty=0.02}"; }
all="quantizer.text_rows='all'"
labels="split.labels='client'"
declare -A sets=(
  [none]="$(both "{kind='none'}")"
  # Levels.
  [fsq16]="$(fsq 16 3.0)" [fsq4]="$(fsq 4 1.5)" [fsq2]="$(fsq 2 0.8)"
  # Dither: a uniform draw as wide as a step.
  [fsq16-dither]="$(fsq 16 3.0) privacy.dither=true $all" [fsq4-dither]="$(fsq 4 1.5) privacy.dither=true $all"
  [fsq2-dither]="$(fsq 2 0.8) privacy.dither=true $all"
  # Noise, in units of the length that rows are clipped to: few image rows are longer than 6, text rows are about 2.4 long.
  [noise-0.01]="$(fsq 16 3.0) privacy.clip=6 privacy.noise=0.01 $all" [noise-0.03]="$(fsq 16 3.0) privacy.clip=6 privacy.noise=0.03 $all"
  [noise-0.1]="$(fsq 16 3.0) privacy.clip=6 privacy.noise=0.1 $all"
  # A penalty on what rows tell of pixels.
  [nopeek-1]="$(fsq 16 3.0) privacy.nopeek=1" [nopeek-10]="$(fsq 16 3.0) privacy.nopeek=10"
  [nopeek-100]="$(fsq 16 3.0) privacy.nopeek=100"
  # Against an inverse network that is trained along.
  [adversary-1]="$(fsq 16 3.0) privacy.adversary=1" [adversary-10]="$(fsq 16 3.0) privacy.adversary=10"
  [adversary-100]="$(fsq 16 3.0) privacy.adversary=100"
  # Lengths: whoever sees these alone. Accuracy and pictures are those of fsq16.
  [padding-8]="$(fsq 16 3.0) privacy.padding=8" [padding-16]="$(fsq 16 3.0) privacy.padding=16"
  [padding-32]="$(fsq 16 3.0) privacy.padding=32"
  # A block at the client: the demo's model has two, of which the server keeps one. Labels there, bare and with noise on what goes
  # back for them.
  [block]="$(fsq 16 3.0) split.bottom_blocks=1" [labels]="$(fsq 16 3.0) $labels"
  [labels-noise-0.3]="$(fsq 16 3.0) $labels privacy.gradient_noise=0.3" [labels-noise-1]="$(fsq 16 3.0) $labels privacy.gradient_noise=1"
  [labels-noise-3]="$(fsq 16 3.0) $labels privacy.gradient_noise=3"
  # Together.
  [fsq2-nopeek-10]="$(fsq 2 0.8) privacy.nopeek=10" [fsq2-dither-nopeek-10]="$(fsq 2 0.8) privacy.dither=true privacy.nopeek=10 $all"
  [fsq2-noise-0.03]="$(fsq 2 0.8) privacy.clip=6 privacy.noise=0.03 $all"
  [fsq2-dither-adversary-10]="$(fsq 2 0.8) privacy.dither=true privacy.adversary=10 $all"
  [fsq2-dither-block-labels]="$(fsq 2 0.8) privacy.dither=true split.bottom_blocks=1 $labels privacy.gradient_noise=1 privacy.padding=32 $all"
)
order=(none fsq16 fsq2 fsq2-dither noise-0.1 nopeek-10 adversary-10 padding-32 labels-noise-1 block fsq2-dither-nopeek-10)
[ "$mode" = quick ] || order+=(fsq4 fsq16-dither fsq4-dither noise-0.01 noise-0.03 nopeek-1 nopeek-100 adversary-1 adversary-100
  padding-8 padding-16 labels labels-noise-0.3 labels-noise-3 fsq2-nopeek-10 fsq2-noise-0.03 fsq2-dither-adversary-10
  fsq2-dither-block-labels)
read -ra names <<< "${SETTINGS:-${order[*]}}"
demo=() victims=200 auxiliary=8000
[ "$mode" = full ] || { demo=(--set train.steps=150 --test-scenes 100 --train-scenes 1500); victims=100; auxiliary=2000; }
scenes() { [ -f "$out/$1/generated.json" ] || $qtl data scenes --out "$out/$1" --seed "$2" --count "$3" > /dev/null; }
scenes victims 301 "$victims"
scenes auxiliary 302 "$auxiliary"
attacks=(--attack mean-picture --attack own-background --attack nearest-by-pixels --attack nearest-by-code --attack collage
  --attack mixed --attack optimise --attack match --attack lengths-alone --attack dictionary --attack context --attack targets
  --attack gradient)
# It needs some 700 steps to be better than the others, for which a quick run has no time.
[ "$mode" = quick ] || attacks+=(--attack inverse)
[ -z "${ATTACKS:-}" ] || { attacks=(); for name in $ATTACKS; do attacks+=(--attack "$name"); done; }

seeds=${SEEDS:-1} runs=() missing=()
left=$((seeds * ${#names[@]}))
for seed in $(seq 1 "$seeds"); do
  for name in "${names[@]}"; do
    run="$out/$name-seed$seed" began=$SECONDS share=$(((ends - SECONDS) / left)) minutes=${MINUTES:-8}
    left=$((left - 1))
    if [ ! -f "$run/attacks/leakage.json" ]; then
      : "${sets[$name]:?"$name is no setting; there are: ${!sets[*]}"}"
      if [ "$mode" = quick ] && [ "$share" -lt 5 ]; then
        missing+=("$name-seed$seed")
        continue
      fi
      if [ ! -f "$run/summary.json" ]; then
        echo "== $run: training" >&2
        # shellcheck disable=SC2046,SC2086 # words of the program, the setting and DEMO are arguments
        limited $qtl demo --out "$run" $(printf -- '--set %s ' ${sets[$name]}) --set "seed=$seed" "${demo[@]}" ${DEMO:-} > /dev/null \
          || { [ "$mode" = quick ] && missing+=("$name-seed$seed") && continue; exit 1; }
      fi
      if [ "$mode" = quick ]; then
        minutes=${MINUTES:-$(awk -v s=$((share - SECONDS + began)) 'BEGIN { print (s > 20 ? s : 20) * 0.9 / 60 }')}
      fi
      echo "== $run: attacks, $minutes minutes" >&2
      # shellcheck disable=SC2086
      limited $qtl leakage --model "$run/checkpoint" --no-exact --data "$out/victims/llava.json" \
        --auxiliary "$out/auxiliary/llava.json" --victims "$victims" --budget "$minutes" --seed "$seed" "${attacks[@]}" \
        --out "$run/attacks" > "$run/attacks.txt" || { [ "$mode" = quick ] && missing+=("$name-seed$seed") && continue; exit 1; }
    fi
    runs+=("$run")
  done
done
[ ${#missing[@]} = 0 ] || echo "no time for: ${missing[*]}; the same command goes on with them" >&2
[ ${#runs[@]} = 0 ] || $qtl compare --leakage --out "$out/table.md" --svg "$out/frontier.svg" "${runs[@]}"
