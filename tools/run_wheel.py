"""Runs a finished wheel. Usage:

run_wheel.py                       the ruvector that is installed here
run_wheel.py FOLDER WHEEL [OTHER]  WHEEL, in a fresh environment below FOLDER

The instruction sets it finds must be those the operating system says the processor has.
With OTHER, a build of the same source by another compiler: both make the same bytes, and
WHEEL's searches take at most a tenth longer, measured turn by turn in the same minutes.
"""

import hashlib
import platform
import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path

ROUNDS = 31
TRIES = 5
SLOWER = 1.10
# By Linux' names. What a set of kernels asks for beside the first is left out where it
# never comes alone.
NEEDS = {
    "avx512vbmi": {"avx512vbmi", "avx512_vnni"},
    "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq"},
    "avx2": {"avx2", "fma", "f16c"},
}


# ---- the instruction sets ----------------------------------------------------------


def linux_sets():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = set(next(line for line in lines if line.startswith("flags")).split())
    return [name for name, needs in NEEDS.items() if needs <= flags]


def darwin_sets():
    def has(name):
        command = ["sysctl", "-n", f"hw.optional.{name}"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() == "1"

    return ["avx2"] if has("avx2_0") and has("fma") and has("f16c") else []


def windows_sets():
    import ctypes

    avx2, avx512f = 40, 41  # PF_AVX2_INSTRUCTIONS_AVAILABLE, PF_AVX512F_...
    present = ctypes.windll.kernel32.IsProcessorFeaturePresent
    return [name for name, code in (("avx512", avx512f), ("avx2", avx2)) if present(code)]


def sets_by_the_system():
    """Those the kernels must find, and whether they may find no other."""
    if platform.machine().lower() in {"arm64", "aarch64"}:
        return ["neon"], True
    if sys.platform == "linux":
        return linux_sets(), True
    return (darwin_sets() if sys.platform == "darwin" else windows_sets()), False


def check_installed():
    import numpy as np
    import ruvector

    vectors = np.random.default_rng(1).standard_normal((500, 32), dtype=np.float32)
    for name in ("FlatF32Index", "RabitqIndex", "RabitqPlusIndex", "RabitqAsymIndex"):
        index = getattr(ruvector, name).build(vectors)
        assert index.search(vectors[7], k=3)[0].id == 7, name
    found = ruvector.cpu_features()["available"]
    wanted, exactly = sets_by_the_system()
    print(f"{ruvector.__file__}: finds {found}; the system has {wanted}")
    if not set(wanted) <= set(found) or (exactly and found != [*wanted, "scalar"]):
        sys.exit("These are not the instruction sets of this machine (src/kernel/cpu.c)")


# ---- two builds side by side -------------------------------------------------------


def work():
    """In an environment: prints a digest, then a time for each line that comes in."""
    import numpy as np
    import ruvector

    ruvector.set_num_threads(1)
    rng = np.random.default_rng(5)
    digest = hashlib.sha256()
    for name in ("FlatF32Index", "RabitqIndex", "RabitqPlusIndex", "RabitqAsymIndex"):
        for metric in ("l2", "ip", "cosine"):
            for dim in (3, 100, 384):
                rows = rng.standard_normal((700, dim), dtype=np.float32)
                index = getattr(ruvector, name).build(rows, metric=metric)
                digest.update(index.to_bytes())
                for part in index.search_batch(rows[:20], k=10):
                    digest.update(np.ascontiguousarray(part).tobytes())
    vectors = rng.standard_normal((50_000, 128), dtype=np.float32)
    queries = rng.standard_normal((60, 128), dtype=np.float32)
    index = ruvector.RabitqPlusIndex.build(vectors)
    print(digest.hexdigest(), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        for query in queries:
            index.search(query, k=10)
        print((time.perf_counter() - start) / len(queries) * 1e6, flush=True)


class Worker:
    def __init__(self, python):
        command = [python, __file__, "--work"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.digest = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args[0]} ended with {self.process.wait()}")
        return line.strip()

    def turn(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.read())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def environment(folder, wheel):
    venv.create(folder, clear=True, with_pip=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True)
    return str(python)


def compare(python, other):
    first, second = Worker(python), Worker(other)
    if first.digest != second.digest:
        sys.exit("The two builds make different bytes of the same vectors")
    for attempt in range(TRIES):
        times = [(first.turn(), second.turn()) for _ in range(ROUNDS)]
        mine, others = (statistics.median(column) for column in zip(*times))
        print(f"{mine:.0f} us a query, the other build {others:.0f}: {mine / others:.2f}")
        if mine <= SLOWER * others:
            break
        time.sleep(2 * attempt)
    first.close()
    second.close()
    if mine > SLOWER * others:
        sys.exit(f"Slower than the other build in {TRIES} tries")


def main(folder=None, wheel=None, other=None):
    if folder is None:
        return check_installed()
    folder = Path(folder)
    python = environment(folder / "wheel", wheel)
    subprocess.run([python, __file__], check=True)
    if other is not None:
        compare(python, environment(folder / "other", other))
    return None


if __name__ == "__main__":
    if sys.argv[1:] == ["--work"]:
        work()
    else:
        main(*sys.argv[1:])
