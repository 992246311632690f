"""The measuring of runs/lines.sh: lines.py PROGRAM OUT. Standard library only."""

import json, os, queue, re, shutil, socket, statistics, subprocess, sys, threading, time

from step_ends import ends

PROGRAM, OUT = sys.argv[1], sys.argv[2]
STEPS, WARM = int(os.environ.get("STEPS", 40)), 5
MODEL, RECIPE = "crates/qtinyllava/assets/demo-base", "recipes/demo.toml"
ROUND_TRIP = 0.020
LINES = [float(mbit) for mbit in os.environ.get("LINES", "1 10 100").split()]


def both(quantizer):
    return [f"quantizer.{stream}={quantizer}" for stream in ("image", "text")]


PAPER = both("{kind='fsq', levels=4, width=3.0, statistics='batch', penalty=0.25}")
SETTINGS = {
    "paper": ("the paper's: 4 levels, one range, every row, 32-bit gradients", [*PAPER, "quantizer.text_rows=all", "gradient.codec=f32"]),
    "int8": ("the same, 8-bit gradients", [*PAPER, "quantizer.text_rows=all", "gradient.codec=int8"]),
    "four": ("4 levels per channel, rows once, 1.6-bit gradients",
             both("{kind='fsq', levels=4, width=1.5, statistics='channel', penalty=0.02}")),
    "demo": ("today's default: 16 levels per channel", []),
    "pca": ("32 components, 48 bits a row", both("{kind='pca', dims=32, bits=48.0}")),
}
CHOSEN = os.environ.get("SETTINGS", " ".join(SETTINGS)).split()


class Relay:
    """A line to `port`: bytes leave it at a rate, each way of its own, and arrive half a round trip later."""

    def __init__(self, port, mbit):
        self.port, self.rate, self.passed = port, mbit * 1e6 / 8, [0, 0]
        # What a line sends in a millisecond, and at least a packet, goes at once.
        self.chunk = max(1460, int(self.rate / 1000))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.port))
            for s in (near, far):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for way, (a, b) in enumerate(((near, far), (far, near))):
                # Behind a full buffer of 64 KiB and what is on its way the sender waits, as it does at a router.
                held = queue.Queue(max(1, int((65536 + self.rate * ROUND_TRIP) / self.chunk)))
                threading.Thread(target=self.take, args=(a, held, way), daemon=True).start()
                threading.Thread(target=self.give, args=(b, held), daemon=True).start()

    def take(self, source, held, way):
        free = 0.0
        try:
            while data := source.recv(self.chunk):
                free = max(free, time.perf_counter()) + len(data) / self.rate
                self.passed[way] += len(data)
                held.put((free + ROUND_TRIP / 2, data))
        except OSError:
            pass
        held.put((0.0, b""))

    @staticmethod
    def give(sink, held):
        try:
            while True:
                due, data = held.get()
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                time.sleep(max(0.0, due - time.perf_counter()))
                sink.sendall(data)
        except OSError:
            pass


def measured(name, mbit):
    """Median seconds of a step, its bytes up and down, and of it: coding, and what is neither computing nor coding."""
    run = f"{OUT}/run-{name}-{mbit:g}"
    shutil.rmtree(run, ignore_errors=True)
    os.makedirs(run)
    fields = SETTINGS[name][1] + [f"train.steps={WARM + STEPS}", "train.save_every=100000", "metrics.compare_every=0",
                                  "quantizer.calibration_batches=2"]
    common = ["--model", MODEL, "--recipe", RECIPE, *(f"--set={field}" for field in fields)]
    start = lambda args, log: subprocess.Popen([PROGRAM, *args], stdout=open(log, "w"), stderr=subprocess.STDOUT,
                                               stdin=subprocess.DEVNULL, env=dict(os.environ, NO_COLOR="1"))
    server = start(["serve", *common, "--run", f"{run}/server", "--tls", f"{OUT}/certs/server", "--listen", "127.0.0.1:0", "--once"],
                   f"{run}/serve.log")
    client = None
    try:
        while not (found := re.search(r"listening on \S*:(\d+)", open(f"{run}/serve.log").read())):
            if server.poll() is not None:
                sys.exit(f"serve ended; see {run}/serve.log")
            time.sleep(0.05)
        relay = Relay(int(found.group(1)), mbit)
        client = start(["train", *common, "--run", f"{run}/client", "--tls", f"{OUT}/certs/client", "--connect", relay.address,
                        "--data", f"{OUT}/data/llava.json"], f"{run}/train.log")
        if client.wait():
            sys.exit(f"train ended with {client.returncode}; see {run}/train.log")
        relay.listener.close()
        server.wait(60)
    finally:
        for process in (client, server):
            if process and process.poll() is None:
                process.kill()
                process.wait()
    lines = [json.loads(line) for line in open(f"{run}/client/metrics.jsonl")][WARM:]
    times = ends(f"{run}/client")[WARM - 1:]
    steps = [after - before for before, after in zip(times, times[1:])]
    of = lambda field: statistics.median(line[field] for line in lines)
    shutil.rmtree(run)
    return statistics.median(steps), of("bytes_up"), of("bytes_down"), of("compute"), of("coding"), of("waiting")


def main():
    titles = [f"{mbit:g} Mbit/s" for mbit in LINES]
    print("| what crosses | bytes up | bytes down | computing | coding |", " | ".join(f"step at {t} | of it waiting" for t in titles), "|")
    print("|---|" + "---:|" * (4 + 2 * len(LINES)))
    for name in CHOSEN:
        found = [measured(name, mbit) for mbit in LINES]
        _, up, down, compute, coding, _ = found[-1]
        cells = [f"{1e3 * step:.0f} | {1e3 * waiting:.0f}" for step, *_, waiting in found]
        print(f"| {SETTINGS[name][0]} | {up:,.0f} | {down:,.0f} | {1e3 * compute:.0f} | {1e3 * coding:.1f} |", " | ".join(cells), "|", flush=True)
    print(f"\nMilliseconds, medians of {STEPS} steps of 8 samples; bytes are those of a step's messages. Computing and coding of both sides.")


main()
