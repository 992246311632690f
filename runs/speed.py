"""The measuring of runs/speed.sh: speed.py PROGRAM PYTHON OUT. Standard library only.

Seconds of a step go from the end of the step before to its own end, loading, coding and writing included: for the program they are the
times of the scalars that it writes for TensorBoard, for PyTorch those of runs/speed_twin.py. The first steps do not count.
"""

import json, os, shutil, subprocess, sys, time

from step_ends import ends

PROGRAM, PYTHON, OUT = sys.argv[1], sys.argv[2], sys.argv[3]
THREADS = int(os.environ.get("THREADS", len(os.sched_getaffinity(0))))
ROUNDS = int(os.environ.get("ROUNDS", 3))
DEVICE = os.environ.get("DEVICE", "cpu")
SETS = [f"--set={field}" for field in os.environ.get("SETS", "").split()]
# Directory of the model, recipe, samples per step, steps of the program and of PyTorch, and how many of the program's come first.
WORKLOADS = {
    "mid": (f"{OUT}/mid", "recipes/full-size.toml", 2, 8, 6, 2),
    "demo": ("crates/qtinyllava/assets/demo-base", "recipes/demo.toml", 8, 150, 150, 30),
}
ONLY = os.environ.get("ONLY", " ".join(WORKLOADS)).split()


def ours(name):
    """One `train --local`: what a step took, and what of the data it saw."""
    model, recipe, batch, steps, _, warm = WORKLOADS[name]
    run, log = f"{OUT}/run-{name}", f"{OUT}/run-{name}.log"
    shutil.rmtree(run, ignore_errors=True)
    train = [PROGRAM, "train", "--local", "--model", model, "--recipe", recipe, "--run", run, "--data", f"{OUT}/data/llava.json"]
    sets = [f"train.steps={steps}", f"train.batch={batch}", "train.save_every=100000", "quantizer.calibration_batches=1"]
    train += [f"--set={field}" for field in sets] + SETS + (["--device", DEVICE] if DEVICE != "cpu" else [])
    env = dict(os.environ, RAYON_NUM_THREADS=str(THREADS))
    process = subprocess.Popen(train, stdout=open(log, "w"), stderr=subprocess.STDOUT, env=env)
    # Processor time and peak memory up to now, looked at so often that those of a step's end can be told.
    tick, seen = os.sysconf("SC_CLK_TCK"), []
    while process.poll() is None:
        try:
            stat = open(f"/proc/{process.pid}/stat").read().rsplit(")", 1)[1].split()
            status = open(f"/proc/{process.pid}/status").read()
        except OSError:
            continue
        if "VmHWM:" in status:
            peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
            seen.append((time.time(), int(stat[11]) / tick, int(stat[12]) / tick, peak))
        time.sleep(0.02)
    if process.returncode:
        sys.exit(f"train ended with {process.returncode}; see {log}")
    times = ends(run)
    at = lambda when: min(seen, key=lambda look: abs(look[0] - when))
    begin, end = at(times[warm - 1]), at(times[-1])
    lines = [json.loads(line) for line in open(f"{run}/metrics.jsonl")][warm:]
    shutil.rmtree(run)
    mean = lambda field: round(sum(line[field] for line in lines) / sum(line["samples"] for line in lines))
    return {
        "seconds": [b - a for a, b in zip(times[warm - 1 :], times[warm:])],
        "cpu": (end[1] + end[2] - begin[1] - begin[2]) / (len(times) - warm),
        "system": (end[2] - begin[2]) / (len(times) - warm),
        "peak": end[3],
        "text": mean("rows_text"),
        "supervised": mean("tokens"),
        "loss": lines[-1]["loss"],
    }


def twin(name, shape, *lean):
    """The same in PyTorch, for as many tokens of text."""
    model, _, batch, _, steps, _ = WORKLOADS[name]
    command = [PYTHON, "runs/speed_twin.py", f"{model}/config.json", *lean]
    sizes = {"batch": batch, "text": shape["text"], "supervised": shape["supervised"], "steps": steps, "threads": THREADS}
    command += [f"--{size}={value}" for size, value in sizes.items()]
    command += ["--device", DEVICE] if DEVICE != "cpu" else []
    command += ["--bf16"] if any("bf16" in field for field in SETS) else []
    env = dict(os.environ, OMP_NUM_THREADS=str(THREADS))
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, env=env).stdout)


def main():
    load = os.getloadavg()[0]
    found = {}
    for turn in range(ROUNDS):
        for name in ONLY:
            shape = ours(name)
            kinds = {"ours": shape}
            if PYTHON:
                kinds |= {"PyTorch": twin(name, shape), "PyTorch, lean": twin(name, shape, "--lean")}
            for kind, result in kinds.items():
                found.setdefault(name, {}).setdefault(kind, []).append(result)
                print(f"round {turn + 1}, {name}, {kind}: least {min(result['seconds']):.4f} s", file=sys.stderr, flush=True)
    json.dump(found, open(f"{OUT}/speed.json", "w"), indent=1)
    print(f"{THREADS} threads of {os.cpu_count()}, load {load:.1f} before and {os.getloadavg()[0]:.1f} after (this run's own included), {ROUNDS} rounds\n")
    print("| workload | | least s | median s | processor s | of it system | peak MiB | PyTorch / ours, least | median |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, kinds in found.items():
        row = {kind: summary(results) for kind, results in kinds.items()}
        for kind, (least, median, cpu, system, peak) in row.items():
            ratios = [f"{row[kind][i] / row['ours'][i]:.2f}" if kind != "ours" else "" for i in (0, 1)]
            system = f"{system:.4f}" if kind == "ours" else ""
            print(f"| {name} | {kind} | {least:.4f} | {median:.4f} | {cpu:.4f} | {system} | {peak / 2**20:.0f} | {ratios[0]} | {ratios[1]} |")


def summary(results):
    seconds = sorted(s for result in results for s in result["seconds"])
    least = lambda field: min(result.get(field, 0) for result in results)
    return seconds[0], seconds[len(seconds) // 2], least("cpu"), least("system"), max(result["peak"] for result in results)


main()
