"""Tables of runs/leakage.sh: `table DIR` means and deviations over seeds, `check DIR` thresholds."""

import json
import pathlib
import statistics
import sys

COLUMNS = [
    ("collage", "PSNR dB"),
    ("collage", "still named %"),
    ("inverse", "PSNR dB"),
    ("mixed", "PSNR dB"),
    ("mixed", "PSNR of objects dB"),
    ("mixed", "still named %"),
    ("optimise", "PSNR dB"),
    ("optimise", "still named %"),
    ("ask", "answers %"),
    ("probe", "all rows, one layer %"),
    ("match", "top-1 of 1000 %"),
    ("dictionary", "tokens of questions %"),
    ("dictionary", "tokens of answers %"),
]
BASELINES = ["mean picture", "own background", "nearest by pixels", "nearest by code", "lengths alone"]
CHECKS = [
    ("check-collage", "collage", "fsq levels=2", "still named 'what is..' %", 95.0),
    ("check-inverse", "inverse", "exact", "PSNR dB", 20.5),
]


def outcomes(path):
    return json.loads(path.read_text())["outcomes"]


def value(found, attack, measure, setting, view="the recipe's"):
    for outcome in found:
        if outcome["attack"] != attack or outcome["setting"] not in (setting, "any"):
            continue
        if not outcome["view"].startswith(view) or outcome.get("steps") == 0:
            continue
        for finding in outcome["findings"]:
            if finding["measure"] == measure:
                return finding["value"]
    return None


def cell(values):
    values = [v for v in values if v is not None]
    if not values:
        return "-"
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


def table(out):
    runs = {}
    for path in sorted(out.glob("*-seed*/attacks/leakage.json")):
        runs.setdefault(path.parent.parent.name.rsplit("-seed", 1)[0], []).append(outcomes(path))
    lines = []
    for setting, title in (("insider", "insider"), ("base", "public base")):
        lines += [f"## {title}", ""]
        lines.append("| what crosses | " + " | ".join(f"{a}: {m}" for a, m in COLUMNS) + " |")
        lines.append("|---|" + "---:|" * len(COLUMNS))
        for name, seeds in runs.items():
            row = [cell([value(f, a, m, setting) for f in seeds]) for a, m in COLUMNS]
            lines.append(f"| {name} | " + " | ".join(row) + " |")
        lines.append("")
    lines += ["## without looking", ""]
    every = [found for seeds in runs.values() for found in seeds]
    for attack in BASELINES:
        for measure in ("PSNR dB", "PSNR of objects dB", "still named %", "tokens of questions %", "tokens of answers %"):
            values = [value(found, attack, measure, "insider") for found in every]
            if any(v is not None for v in values):
                lines.append(f"- {attack}, {measure}: {cell(values)}")
    lines += ["", "## steps that attackers had", ""]
    for name, seeds in runs.items():
        steps = {}
        for outcome in (o for found in seeds for o in found if o.get("steps") is not None):
            steps.setdefault(outcome["attack"], []).append(outcome["steps"])
        said = ", ".join(f"{attack} {min(all)} to {max(all)}" for attack, all in steps.items())
        lines.append(f"- {name}: {said or 'none'}")
    text = "\n".join(lines) + "\n"
    (out / "table.md").write_text(text)
    print(text)


def check(out):
    failed = False
    for name, attack, view, measure, least in CHECKS:
        got = value(outcomes(out / name / "leakage.json"), attack, measure, "insider", view)
        verdict = "ok" if got is not None and got > least else "FAILED"
        failed |= verdict != "ok"
        got = "none" if got is None else f"{got:.1f}"
        print(f"{verdict}: {attack}, {measure}: {got}, more than {least} expected")
    sys.exit(failed)


if __name__ == "__main__":
    {"table": table, "check": check}[sys.argv[1]](pathlib.Path(sys.argv[2]))
