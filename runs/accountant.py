"""Our epsilon of noise against dp-accounting's Gaussian event, composed with itself, by its Renyi accountant: 20 settings, 1 %.

    pip install dp-accounting
    python3 runs/accountant.py

EPSILON is the program that says ours: by default `cargo run --release --example epsilon -p qtl-train`.
"""

import os
import shlex
import subprocess
import sys

import numpy
from dp_accounting import dp_event
from dp_accounting.rdp import rdp_privacy_accountant

PROGRAM = os.environ.get("EPSILON", "cargo run --release --quiet --example epsilon -p qtl-train --")
SETTINGS = [(z, k, d) for z in (0.05, 0.5, 1.0, 4.0, 20.0) for k, d in ((1, 1e-5), (4, 1e-6), (30, 1e-5), (1000, 1e-7))]
# Finer than its own, so that its answer is the minimum and not the nearest order.
ORDERS = numpy.concatenate([1 + numpy.geomspace(1e-4, 10, 4000), numpy.geomspace(11, 1e5, 4000)])

lines = "".join(f"{z} {k} {d}\n" for z, k, d in SETTINGS)
ours = subprocess.run(shlex.split(PROGRAM), input=lines, capture_output=True, text=True, check=True).stdout.split()
worst = 0.0
for (z, k, d), own in zip(SETTINGS, map(float, ours), strict=True):
    accountant = rdp_privacy_accountant.RdpAccountant(list(ORDERS))
    accountant.compose(dp_event.SelfComposedDpEvent(dp_event.GaussianDpEvent(z), k))
    theirs = accountant.get_epsilon(d)
    apart = abs(own - theirs) / theirs
    worst = max(worst, apart)
    print(f"multiplier {z:<5} times {k:<5} delta {d:<7} ours {own:12.4f} theirs {theirs:12.4f} apart {100 * apart:.3f} %")
print(f"worst {100 * worst:.3f} %")
sys.exit(int(worst > 0.01))
