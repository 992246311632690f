"""How far our JPEG decoder is from Pillow's: pictures of several kinds, encoded by Pillow and decoded by both.

Needs numpy and Pillow. Builds the example `decode` with cargo. Usage: python3 runs/jpeg_in_python.py
"""

import subprocess, tempfile
from pathlib import Path

import numpy as np
from PIL import Image

SAMPLING = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}


def main():
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as place:
        place, files = Path(place), {}
        for size in ((64, 64), (70, 51), (336, 336), (500, 375)):
            for blob in (4, 16):  # pixels from one random colour to the next
                colours = rng.integers(0, 256, (size[1] // blob + 1, size[0] // blob + 1, 3), dtype=np.uint8)
                picture = Image.fromarray(colours).resize(size, Image.BICUBIC)
                for sampling in SAMPLING:
                    for progressive in (False, True):
                        path = place / f"{len(files)}.jpg"
                        picture.save(path, quality=90, subsampling=sampling, progressive=progressive)
                        files[path] = sampling
        subprocess.run(["cargo", "run", "--quiet", "--release", "-p", "qtl-data", "--example", "decode", "--", place, *files],
                       check=True)
        print("| sampling | pictures | mean difference | samples off by more than 2 | largest, but for the last 2 columns | largest |")
        print("|---|---|---|---|---|---|")
        for sampling, name in SAMPLING.items():
            some = [path for path, kind in files.items() if kind == sampling]
            pairs = [[np.asarray(Image.open(p), dtype=int) for p in (path, path.with_suffix(".png"))] for path in some]
            off = [np.abs(a - b) for a, b in pairs]
            every = np.concatenate([d.ravel() for d in off])
            inner = max(d[:, :-2].max() for d in off)
            print(f"| {name} | {len(some)} | {every.mean():.3f} | {100 * (every > 2).mean():.2f} % | {inner} | {every.max()} |")


main()
