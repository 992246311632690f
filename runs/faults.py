"""The rows of runs/faults.sh. Standard library only."""

import glob, hashlib, json, os, re, shutil, signal, socket, subprocess, sys, threading, time
from pathlib import Path

PROGRAM, ONLY = os.path.abspath(sys.argv[1]), sys.argv[2]
ROOT = Path("runs/faults").resolve()
BASE, RECIPE = (Path(p).resolve() for p in ("crates/qtinyllava/assets/demo-base", "recipes/demo.toml"))
STEPS = 20
SETS = [f"train.steps={STEPS}", "train.save_every=5", "quantizer.calibration_batches=4"]
LIMIT = 120  # seconds that anything may take


def model():
    args = ["--model", BASE, "--recipe", RECIPE]
    for s in SETS:
        args += ["--set", s]
    return args


class Process:
    """The program, with what it says in a file."""

    def __init__(self, log, *args, limits=None, env=None, within=()):
        self.path = Path(log)
        self.file = open(log, "ab")
        env = dict(os.environ, QTL_LOG="warn,qtinyllava=debug,qtl_wire::grpc::server=info", NO_COLOR="1", **(env or {}))
        self.process = subprocess.Popen([*within, PROGRAM, *map(str, args)], stdin=subprocess.DEVNULL, stdout=self.file,
                                        stderr=subprocess.STDOUT, env=env, preexec_fn=limits)

    def said(self):
        return self.path.read_text(errors="replace")

    def await_line(self, text, after=0):
        end = time.time() + LIMIT
        while time.time() < end:
            if text in self.said()[after:]:
                return
            if self.process.poll() is not None and text not in self.said()[after:]:
                raise Failed(f"ended without {text!r}: {self.last()}")
            time.sleep(0.01)
        raise Failed(f"no {text!r} within {LIMIT} s: {self.last()}")

    def last(self):
        lines = [line for line in self.said().splitlines() if line.strip()]
        return " / ".join(lines[-2:])[-300:]

    def end(self, how=signal.SIGKILL):
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.wait()

    def wait(self):
        try:
            return self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failed(f"still running after {LIMIT} s: {self.last()}")


class Failed(Exception):
    pass


class Proxy:
    """Forwards bytes to the server; `fates` say what each connection meets with, in order, and None is nothing."""

    def __init__(self, to, fates):
        self.to, self.fates, self.cut_now, self.open = to, list(fates), False, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            fate, at = self.fates.pop(0) if self.fates else (None, 0)
            threading.Thread(target=self.serve, args=(near, fate, at), daemon=True).start()

    def serve(self, near, fate, at):
        if fate == "reset":
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            near.close()
            return
        if fate == "page":
            near.recv(4096)
            near.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            near.close()
            return
        try:
            far = socket.create_connection(("127.0.0.1", at if fate == "elsewhere" else self.to), 5)
        except OSError:
            near.close()
            return
        self.open += [near, far]
        up = fate if fate in ("flip up", "cut up", "stall", "throttle", "duplicate") else None
        down = fate if fate in ("flip down", "truncate", "throttle", "late") else None
        threading.Thread(target=self.pump, args=(near, far, up, at), daemon=True).start()
        self.pump(far, near, down, at)

    def cut_all(self):
        """Ends the connections that are there; later ones are forwarded."""
        for s in self.open:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.open.clear()

    def pump(self, a, b, fate, at):
        passed = 0
        try:
            while data := a.recv(4096):
                here = at - passed
                if fate and fate.startswith("flip") and 0 <= here < len(data):
                    data = data[:here] + bytes([data[here] ^ 16]) + data[here + 1:]
                elif fate in ("cut up", "truncate") and here < len(data):
                    b.sendall(data[:max(here, 0)])
                    break
                elif fate == "stall" and here < len(data):
                    while a.recv(4096):  # swallowed: the connection stays, and nothing passes
                        pass
                    break
                elif fate == "duplicate" and 0 <= here < len(data):
                    data = data + data
                elif fate == "throttle":
                    time.sleep(len(data) / 400_000)
                elif fate == "late":  # answers take a while, so that one of them can be lost on its way
                    time.sleep(0.15)
                    if self.cut_now:
                        break
                b.sendall(data)
                passed += len(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Run:
    """A server and a client in a directory of the row's own."""

    def __init__(self, name):
        self.dir = ROOT / re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(parents=True)
        self.client_dir, self.server_dir = self.dir / "client", self.dir / "server"
        self.processes = []

    def serve(self, *more, listen="127.0.0.1:0", kit="certs/server", run=None, **how):
        server = Process(self.dir / f"serve{len(self.processes)}.log", "serve", *model(), "--run", run or self.server_dir,
                         "--tls", ROOT / kit, "--listen", listen, *more, **how)
        self.processes.append(server)
        server.await_line("listening on ")
        server.address = re.search(r"listening on (\S+)", server.said()).group(1)
        server.port = int(server.address.rsplit(":")[-1])
        return server

    def train(self, address, *more, kit="certs/client", run=None, data=None, **how):
        client = Process(self.dir / f"train{len(self.processes)}.log", "train", *model(), "--run", run or self.client_dir,
                         "--tls", ROOT / kit, "--connect", address, "--data", data or ROOT / "data/llava.json",
                         *more, **how)
        self.processes.append(client)
        return client

    def close(self):
        for process in self.processes:
            process.end()
            process.file.close()

    def outcome(self):
        step = f"checkpoints/step-{STEPS:08}/model.safetensors"
        weights = [hashlib.sha256((d / step).read_bytes()).hexdigest() for d in (self.client_dir, self.server_dir)]
        losses = [json.loads(line)["loss"] for line in (self.client_dir / "metrics.jsonl").read_text().splitlines()]
        return weights, losses

    def finish(self, server=None):
        """The same two commands, to the end."""
        server = server or self.serve()
        client = self.train(server.address)
        if client.wait() != 0:
            raise Failed(f"does not resume: {client.last()}")
        return self.same()

    def same(self):
        weights, losses = self.outcome()
        if (weights, losses) != UNDISTURBED:
            raise Failed("other weights or losses" if len(losses) == STEPS else f"{len(losses)} lines of metrics")
        return "bit-identical"

    def refused(self, process, *words, code=1):
        """It must have ended with a sentence that has these words."""
        got = process.wait()
        said = process.said()
        if got != code or "panicked" in said:
            raise Failed(f"exit code {got}: {process.last()}")
        missing = [word for word in words if word not in said]
        if missing:
            raise Failed(f"no {missing} in: {process.last()}")
        line = [line for line in said.splitlines() if line.startswith("error: ")]
        return "error: " + (line[-1][7:] if line else process.last())[:110]


ROWS = []


def row(fault, side, phase):
    def add(function):
        ROWS.append((fault, side, phase, function))
        return function
    return add


def step(n):
    return f"step {n}: loss"


PHASES = {
    "calibrating": "a client trains from step 0",
    "between saves": step(7),
    "saving": step(9),
    "last step": step(STEPS - 1),
}

# Processes

for phase, mark in PHASES.items():
    def killed_client(run, mark=mark):
        server = run.serve()
        client = run.train(server.address)
        server.await_line(mark)
        client.end()
        return run.finish(server)
    row("kill -9", "client", phase)(killed_client)

    def killed_server(run, mark=mark):
        server = run.serve()
        client = run.train(server.address)
        server.await_line(mark)
        server.end()
        run.serve(listen=server.address)
        if client.wait() != 0:
            raise Failed(client.last())
        return run.same()
    row("kill -9", "server", phase)(killed_server)


@row("kill -9", "both", "between saves")
def _(run):
    server = run.serve()
    client = run.train(server.address)
    server.await_line(step(8))
    server.end()
    client.end()
    return run.finish()


for side in ("client", "server"):
    @row("SIGSTOP for 3 s", side, "between saves")
    def _(run, side=side):
        server = run.serve()
        client = run.train(server.address)
        server.await_line(step(7))
        victim = {"client": client, "server": server}[side].process
        victim.send_signal(signal.SIGSTOP)
        time.sleep(3)
        victim.send_signal(signal.SIGCONT)
        if client.wait() != 0:
            raise Failed(client.last())
        return run.same()


@row("SIGINT", "client", "between saves")
def _(run):
    server = run.serve()
    client = run.train(server.address)
    server.await_line(step(7))
    if client.end(signal.SIGINT) != 3:
        raise Failed(f"exit code {client.process.returncode}: {client.last()}")
    return "exit code 3, then " + run.finish(server)


@row("SIGTERM", "both", "between saves")
def _(run):
    server = run.serve()
    client = run.train(server.address)
    server.await_line(step(7))
    start = time.time()
    for process in (server, client):
        process.process.send_signal(signal.SIGTERM)
    codes = client.wait(), server.wait()
    took = time.time() - start
    if codes != (3, 3) or took > 10 or "cancelled" in client.said():
        raise Failed(f"exit codes {codes} after {took:.0f} s: {client.last()}")
    return f"exit codes 3 after {took:.0f} s, then " + run.finish()


@row("SIGTERM", "server, and it stays away", "between saves")
def _(run):
    server = run.serve()
    client = run.train(server.address, "--patience", 2)
    server.await_line(step(7))
    server.end(signal.SIGTERM)
    said = run.refused(client, "gave up on", "the same command resumes")
    return f"{said}; then {run.finish()}"


# Network

MIDDLE = 60_000  # bytes into a connection: within a step's message
for fate, at in [("cut up", MIDDLE), ("truncate", MIDDLE), ("flip up", MIDDLE), ("flip down", MIDDLE), ("duplicate", MIDDLE),
                 ("stall", MIDDLE), ("throttle", 0)]:
    @row(fate, "connection", "between saves")
    def _(run, fate=fate, at=at):
        server = run.serve("--keep-alive", 2)
        proxy = Proxy(server.port, [(fate, at)])
        client = run.train(proxy.address, "--keep-alive", 2)
        if client.wait() != 0:
            raise Failed(client.last())
        if proxy.fates or (fate != "throttle" and "connecting again" not in client.said()):
            raise Failed("the fault did not happen")
        return run.same()


for fate in ("reset", "page", "elsewhere", "flip down", "truncate"):
    @row({"elsewhere": "another machine's certificate", "page": "a proxy's 503"}.get(fate, fate), "connection", "during an outage")
    def _(run, fate=fate):
        server = run.serve()
        other = run.serve(kit="foreign/server", run=run.dir / "other")
        at = {"elsewhere": other.port}.get(fate, 1_000)
        proxy = Proxy(server.port, [("cut up", MIDDLE), (fate, at), (fate, at)])
        client = run.train(proxy.address)
        if client.wait() != 0:
            raise Failed(client.last())
        if proxy.fates:
            raise Failed("the fault did not happen")
        return run.same()

    @row({"elsewhere": "another machine's certificate", "page": "a proxy's 503"}.get(fate, fate), "connection", "before the first welcome")
    def _(run, fate=fate):
        server = run.serve()
        other = run.serve(kit="foreign/server", run=run.dir / "other")
        at = {"elsewhere": other.port}.get(fate, 1_000)
        # Within the handshake, or else a greeting would come through.
        proxy = Proxy(server.port, [(fate, 300 if fate == "truncate" else at)] * 50)
        client = run.train(proxy.address, "--connect-timeout", 3)
        said = run.refused(client, {"elsewhere": "no authority in ca.pem", "page": "does not speak TLS"}.get(fate, proxy.address))
        return f"{said}; then {run.finish(server)}"


@row("the last answer lost", "connection", "finishing, server with --once")
def _(run):
    server = run.serve("--once")
    proxy = Proxy(server.port, [("late", 0)])
    client = run.train(proxy.address)
    server.await_line(f"finished after {STEPS} steps")
    proxy.cut_now = True
    if client.wait() != 0 or server.wait() != 0:
        raise Failed(client.last())
    if "connecting again" not in client.said():
        raise Failed("the fault did not happen")
    return run.same()


@row("the last answer lost, and the server with it", "connection", "finishing, server with --once")
def _(run):
    server = run.serve("--once")
    proxy = Proxy(server.port, [("late", 0)])
    client = run.train(proxy.address, "--patience", 2)
    server.await_line(f"finished after {STEPS} steps")
    server.end()
    proxy.cut_now = True
    said = run.refused(client, "all 20 steps are done and saved here")
    return f"{said}; then {run.finish()}"


@row("nobody listens", "server", "before the first welcome")
def _(run):
    port = socket.create_server(("127.0.0.1", 0)).getsockname()[1]
    start = time.time()
    client = run.train(f"127.0.0.1:{port}", "--connect-timeout", 3)
    said = run.refused(client, "nobody listens")
    if not 3 <= time.time() - start < 30:
        raise Failed(f"after {time.time() - start:.1f} s")
    return f"{said}; then {run.finish()}"


# Strangers

@row("200 silent connections", "stranger", "before the first welcome")
def _(run):
    server = run.serve()
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
    result = run.finish(server)
    return result if silent else ""


@row("10,000 quick connections", "stranger", "between saves")
def _(run):
    server = run.serve()
    client = run.train(server.address)
    server.await_line(step(5))
    for _ in range(10_000):
        s = socket.create_connection(("127.0.0.1", server.port))
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        s.close()
    if client.wait() != 0:
        raise Failed(client.last())
    lines = server.said().count("was not let in")
    if lines > 100:
        raise Failed(f"{lines} lines in the log")
    return run.same()


def stranger(kit, words):
    def go(run):
        server = run.serve()
        client = run.train(server.address)
        server.await_line(step(5))
        other = run.train(server.address, "--connect-timeout", 2, kit=kit, run=run.dir / "stranger")
        said = run.refused(other, *words)
        if client.wait() != 0:
            raise Failed(client.last())
        return f"{said}; the run: {run.same()}"
    return go


row("a client of another authority", "stranger", "between saves")(stranger("foreign-client", ["does not accept"]))
row("another kit of the same authority", "stranger", "between saves")(stranger("certs/second", []))
row("an expired kit", "client", "before the first welcome")(
    lambda run: run.refused(run.train(run.serve().address, kit="expired/client"), "expired on", "make a new kit"))


# Directories

@row("another directory", "client", "resuming")
def _(run):
    server = run.serve()
    client = run.train(server.address)
    server.await_line(step(12))
    client.end()
    other = run.train(server.address, run=run.dir / "wrong")
    said = run.refused(other)
    return f"{said}; then {run.finish(server)}"


@row("another directory", "server", "resuming")
def _(run):
    server = run.serve()
    client = run.train(server.address)
    server.await_line(step(12))
    client.end()
    server.end()
    wrong = run.serve(run=run.dir / "wrong")
    said = run.refused(run.train(wrong.address))
    wrong.end()
    return f"{said}; then {run.finish()}"


for side in ("client", "server"):
    @row("a second process on the directory", side, "between saves")
    def _(run, side=side):
        server = run.serve()
        client = run.train(server.address)
        server.await_line(step(5))
        if side == "client":
            second = run.train(server.address)
        else:
            second = Process(run.dir / "second.log", "serve", *model(), "--run", run.server_dir, "--tls",
                             ROOT / "certs/server", "--listen", "127.0.0.1:0")
            run.processes.append(second)
        said = run.refused(second)
        if client.wait() != 0:
            raise Failed(client.last())
        return f"{said}; the run: {run.same()}"


for side in ("client", "server"):
    @row("the directory removed under a running process", side, "between saves")
    def _(run, side=side):
        server = run.serve()
        client = run.train(server.address)
        server.await_line(step(7))
        gone = {"client": run.client_dir, "server": run.server_dir}[side]
        # At once, or the process would write into what is being removed.
        shutil.rmtree(gone.rename(run.dir / "removed"))
        if client.wait() == 0:
            return run.same()
        said = run.refused(client)
        if "No such file" not in said + server.said() and str(gone) not in said + server.said():
            raise Failed(f"the directory is not named: {client.last()}")
        return said


def nobody(directory):
    """A user who may read everything that the program needs and write nothing in the run's directory."""
    kit = directory / "kit"
    shutil.copytree(ROOT / "certs", kit)
    for path in [kit, *kit.rglob("*")]:
        os.chown(path, 65534, 65534)
    return kit, lambda: os.setuid(65534)


for side in ("client", "server") if os.geteuid() == 0 else ():
    @row("a directory that may not be written", side, "starting")
    def _(run, side=side):
        kit, drop = nobody(run.dir)
        for directory in (run.client_dir, run.server_dir):
            directory.mkdir()
        if side == "client":
            said = run.refused(run.train(run.serve().address, kit=kit / "client", limits=drop), "ermission denied", str(run.client_dir))
            return f"{said}; then {run.finish(run.processes[0])}"
        server = Process(run.dir / "denied.log", "serve", *model(), "--run", run.server_dir, "--tls", kit / "server", "--listen",
                         "127.0.0.1:0", limits=drop)
        run.processes.append(server)
        said = run.refused(server, "ermission denied", str(run.server_dir))
        return f"{said}; then {run.finish()}"


def small_files():
    import resource
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


for side in ("client", "server"):
    @row("no file may grow (as on a full disk)", side, "saving")
    def _(run, side=side):
        server = run.serve(limits=small_files if side == "server" else None)
        client = run.train(server.address, limits=small_files if side == "client" else None)
        said = run.refused(client, "File too large")
        server.end(signal.SIGTERM)
        return f"{said}; then {run.finish()}"


class SmallDisk:
    """A directory on a file system of its own with room for so many bytes, which only processes `within` see."""

    def __init__(self, directory, size):
        self.directory = directory
        directory.mkdir()
        mount = f"mount -t tmpfs -o size={size} none '{directory}' && echo mounted && exec sleep 600"
        self.holder = subprocess.Popen(["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount], stdout=subprocess.PIPE)
        if self.holder.stdout.readline() != b"mounted\n":
            raise Failed("no file system of its own can be mounted")
        self.within = ["nsenter", "--target", str(self.holder.pid), "--user", "--mount", "--preserve-credentials"]
        self.seen = Path(f"/proc/{self.holder.pid}/root") / directory.relative_to("/")

    def close(self):
        shutil.copytree(self.seen, self.directory, dirs_exist_ok=True)
        self.holder.kill()
        self.holder.wait()


def can_mount():
    """Whether there are namespaces for everyone here."""
    try:
        return subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"],
                              capture_output=True).returncode == 0
    except OSError:
        return False


for side in ("client", "server") if can_mount() else ():
    @row("a full disk", side, "saving")
    def _(run, side=side):
        disk = SmallDisk({"client": run.client_dir, "server": run.server_dir}[side], "64m")
        try:
            filler = disk.seen / "filler"
            server = run.serve(within=disk.within if side == "server" else ())
            client = run.train(server.address, within=disk.within if side == "client" else ())
            server.await_line(step(6))  # one checkpoint is whole
            with open(filler, "wb") as file:
                try:
                    while file.write(bytes(1 << 16)):
                        file.flush()
                except OSError:
                    pass
            said = run.refused(client, "No space left on device")
            server.end(signal.SIGTERM)
            kept = sorted(path.name for path in disk.seen.glob("checkpoints/step-*[0-9]"))
            if not kept or list(disk.seen.glob("checkpoints/*.partial")):
                raise Failed(f"left: {kept}, {list(disk.seen.glob('checkpoints/*'))}")
            filler.unlink()
        finally:
            disk.close()
        return f"{said}; {', '.join(kept)} kept; then {run.finish()}"


# Time

def faketime():
    """libfaketime, if it is here: where LIBFAKETIME says, or where distributions have it."""
    known = [os.environ.get("LIBFAKETIME", ""), *glob.glob("/usr/lib*/faketime/libfaketime.so.1"), *glob.glob("/usr/lib/*/faketime/libfaketime.so.1")]
    return next((path for path in known if path and os.path.exists(path)), None)


class Clock:
    """The time of day as one process sees it, so many seconds off."""

    def __init__(self, run):
        self.file = run.dir / "clock"
        self.jump(0)
        self.env = {"LD_PRELOAD": faketime(), "FAKETIME_TIMESTAMP_FILE": str(self.file), "FAKETIME_NO_CACHE": "1",
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}

    def jump(self, seconds):
        beside = self.file.with_suffix(".new")
        beside.write_text(f"{seconds:+d}\n")
        beside.replace(self.file)


DAY = 86_400
for side in ("client", "server") if faketime() else ():
    @row("the clock jumps a day forwards and two back", side, "between saves")
    def _(run, side=side):
        clock = Clock(run)
        server = run.serve(env=clock.env if side == "server" else None)
        client = run.train(server.address, env=clock.env if side == "client" else None)
        for at, off in ((4, DAY), (8, -DAY), (12, 3_600)):
            server.await_line(step(at))
            clock.jump(off)
        if client.wait() != 0:
            raise Failed(client.last())
        return run.same()

    for off, word in ((20 * 365 * DAY, "expired"), (-20 * 365 * DAY, "not valid yet")):
        @row(f"the clock jumps twenty years {'forwards' if off > 0 else 'back'} and the connection is lost", side, "between saves")
        def _(run, side=side, off=off, word=word):
            clock = Clock(run)
            ours = {"env": clock.env}
            server = run.serve(**(ours if side == "server" else {}))
            proxy = Proxy(server.port, [])
            client = run.train(proxy.address, **(ours if side == "client" else {}))
            server.await_line(step(7))
            clock.jump(off)
            proxy.cut_all()
            client.await_line(word)
            clock.jump(0)
            if client.wait() != 0:
                raise Failed(client.last())
            return f"said to be {word}; then {run.same()}"


def openssl(*args, cwd=None):
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True, cwd=cwd)


def short_lived(run, side, seconds):
    """A kit with the key of the usual one, whose certificate expires in so many seconds."""
    kit = run.dir / "kit" / side
    shutil.copytree(ROOT / "certs" / side, kit)
    shutil.copytree(ROOT / "certs/ca", run.dir / "kit/ca")
    place = run.dir / "issue"
    place.mkdir()
    (place / "index.txt").touch()
    (place / "serial").write_text("7531\n")
    purpose = f"extendedKeyUsage = {side}Auth\nsubjectAltName = DNS:localhost, IP:127.0.0.1"
    (place / "ca.cnf").write_text("[ca]\ndefault_ca = c\n[c]\ndatabase = index.txt\nnew_certs_dir = .\nserial = serial\n"
                                  f"default_md = sha256\npolicy = p\nx509_extensions = e\n[p]\ncommonName = supplied\n[e]\n{purpose}\n")
    openssl("req", "-new", "-key", kit / f"{side}.key", "-subj", f"/CN={side}", "-out", place / "csr.pem")
    when = lambda at: time.strftime("%Y%m%d%H%M%SZ", time.gmtime(at))
    expires = int(time.time()) + seconds
    openssl("ca", "-batch", "-notext", "-config", "ca.cnf", "-cert", kit.parent / "ca/ca.pem", "-keyfile", kit.parent / "ca/ca.key",
            "-in", "csr.pem", "-out", kit / f"{side}.pem", "-startdate", when(expires - 3600), "-enddate", when(expires), cwd=place)
    return kit, expires


def renew(kit):
    subprocess.run([PROGRAM, "certs", "renew", kit], check=True, capture_output=True)


for side in ("client", "server") if shutil.which("openssl") else ():
    def expires(run, side, *more):
        """A run whose certificate expires; the connection is lost after that. The client, when it has said so."""
        kit, end = short_lived(run, side, 8)
        kits = {"client": "certs/client", "server": "certs/server", side: kit}
        server = run.serve(kit=kits["server"])
        proxy = Proxy(server.port, [])
        client = run.train(proxy.address, *more, kit=kits["client"])
        server.await_line(step(7))
        client.process.send_signal(signal.SIGSTOP)
        time.sleep(max(0, end + 1 - time.time()))
        proxy.cut_all()
        client.process.send_signal(signal.SIGCONT)
        client.await_line("expired")
        return kit, server, client

    @row("a certificate expires during the run and is renewed", side, "between saves")
    def _(run, side=side, expires=expires):
        kit, _, client = expires(run, side)
        renew(kit)
        if client.wait() != 0:
            raise Failed(client.last())
        return run.same()

    @row("a certificate expires during the run", side, "between saves")
    def _(run, side=side, expires=expires):
        kit, server, client = expires(run, side, "--patience", 2)
        said = run.refused(client, "expired", "the same command resumes")
        server.end(signal.SIGTERM)
        return f"{said}; then {run.finish()}"


# Damaged files

def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def damaged(which, name, harm, words):
    def go(run):
        server = run.serve()
        client = run.train(server.address)
        server.await_line(step(12))
        server.end()
        client.end()
        directory = {"client": run.client_dir, "server": run.server_dir}[which]
        files = sorted(directory.glob(name))
        if not files:
            raise Failed(f"no {name}")
        harm(files[-1])
        verified = Process(run.dir / "verify.log", "verify", directory)
        run.processes.append(verified)
        run.refused(verified, files[-1].parent.name)
        outcome = run.finish()
        said = "".join(process.said() for process in run.processes)
        missing = [word for word in words if word not in said]
        if missing:
            raise Failed(f"nobody said {missing}")
        return outcome
    return go


for which in ("client", "server"):
    for name in ("model.safetensors", "optimizer.safetensors", "state.json", "state.b3"):
        for fault, harm in (("a flipped bit in", flip), ("the end cut off", cut), ("somebody removed", Path.unlink)):
            row(f"{fault} the newest {name}", which, "resuming")(
                damaged(which, f"checkpoints/step-*/{name}", harm, ["is damaged", ".damaged"]))


@row("a bad byte in metrics.jsonl", "client", "resuming")
def _(run):
    server = run.serve()
    client = run.train(server.address)
    server.await_line(step(12))
    client.end()
    path = run.client_dir / "metrics.jsonl"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] = 0xFF
    path.write_bytes(data)
    client = run.train(server.address)
    if client.wait() != 0:
        raise Failed(client.last())
    weights, losses = run.outcome()
    named = "metrics.damaged.jsonl" in client.said() and (run.client_dir / "metrics.damaged.jsonl").exists()
    if weights != UNDISTURBED[0] or len(losses) != STEPS - 1 or not named:
        raise Failed(f"{len(losses)} lines of metrics, named: {named}")
    return "the same weights; one line named and put by"


def undisturbed():
    run = Run("undisturbed")
    server = run.serve()
    if run.train(server.address).wait() != 0:
        raise Failed("the undisturbed run did not end: " + run.processes[-1].last())
    run.close()
    return run.outcome()


def prepare():
    ROOT.mkdir(parents=True, exist_ok=True)
    def call(*args):
        subprocess.run([PROGRAM, *map(str, args)], check=True, stdout=subprocess.DEVNULL)
    if not (ROOT / "data").exists():
        call("data", "scenes", "--count", 64, "--out", ROOT / "data")
    for kits in ("certs", "foreign", "expired"):
        shutil.rmtree(ROOT / kits, ignore_errors=True)
    call("certs", "--out", ROOT / "certs")
    call("certs", "--out", ROOT / "certs", "--client", "second")
    call("certs", "--out", ROOT / "foreign")
    fixtures, expired = Path("crates/wire/tests/fixtures"), ROOT / "expired/client"
    expired.mkdir(parents=True)
    for name, file in (("ca.pem", "ca.pem"), ("client.pem", "expired.pem"), ("client.key", "v1.key")):
        shutil.copy(fixtures / file, expired / name)
    # Another authority's client that trusts the right server.
    mixed = ROOT / "foreign-client"
    shutil.rmtree(mixed, ignore_errors=True)
    shutil.copytree(ROOT / "foreign/client", mixed)
    shutil.copy(ROOT / "certs/client/ca.pem", mixed)


prepare()
UNDISTURBED = undisturbed()
table = ["| fault | side | phase | outcome |", "|---|---|---|---|"]
bad = 0
for fault, side, phase, function in ROWS:
    name = f"{fault}, {side}, {phase}"
    if ONLY not in name:
        continue
    run = Run(name)
    start = time.time()
    try:
        outcome = function(run)
    except (Failed, OSError, json.JSONDecodeError) as error:
        outcome, bad = f"**FAILED**: {error}", bad + 1
    finally:
        run.close()
    outcome = outcome.replace("|", "/")
    print(f"{name} ({time.time() - start:.0f} s): {outcome}", flush=True)
    table.append(f"| {fault} | {side} | {phase} | {outcome} |")
(ROOT / "table.md").write_text("\n".join(table) + "\n")
for missing, what in ((not can_mount(), "a full disk: nothing can be mounted here"), (not faketime(), "clocks: libfaketime is not here"),
                      (not shutil.which("openssl"), "certificates that expire: openssl is not here")):
    if missing:
        print(f"left out: {what}")
print(f"{len(table) - 2} rows, {bad} failed; {ROOT / 'table.md'}")
sys.exit(bad > 0)
