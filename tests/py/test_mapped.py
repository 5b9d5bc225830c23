"""A mapped file that others change in place: each call says so, and none ends the process or
answers from other bytes. What replaces a file, or names it otherwise, is not a change.

What is feared is a signal, so the cases run in processes of their own."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import ruvector

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows refuses to cut a mapped file"
)

ROWS = 600
CLASSES = ("FlatF32Index", "RabitqIndex", "RabitqPlusIndex")

PREPARE = f"""
import copy, os, pathlib, pickle, shutil, sys, threading
import numpy as np
import ruvector

ROWS = {ROWS}
FOLDER = os.getcwd()
query = np.load("query.npy")


def classes():
    for name in {CLASSES!r}:
        os.chdir(os.path.join(FOLDER, name))
        yield getattr(ruvector, name)
"""

PREPARE += """
def loaded(mmap=True):
    pathlib.Path("x").unlink(missing_ok=True)
    shutil.copyfile("first", "x")
    os.utime("x", ns=(1, 1))  # an old file: loading need not wait for the clock of files
    return cls.load("x", mmap=mmap)


def has_vectors():
    return cls.load("first").memory_usage()["vectors"] > 0


CALLS = {
    "search": lambda i: i.search(query, k=5),
    "search_batch": lambda i: i.search_batch(query[None].repeat(70, axis=0), k=5),
    "save": lambda i: i.save("saved"),
    "save over": lambda i: i.save("x"),
    "to_bytes": lambda i: i.to_bytes(),
    "pickle": lambda i: pickle.dumps(i),
    "copy": lambda i: copy.deepcopy(i),
    "equal": lambda i: i == cls.load("first"),
    "equal, the other": lambda i: cls.load("first") == i,
    "add": lambda i: i.add_batch(query[None]),
    "upsert": lambda i: i.upsert([0], query[None]),
    "vacuum": lambda i: i.remove(range(9)) and i.vacuum(),
    "norms": lambda i: i.norms,
}
OF_VECTORS = {
    "vector": lambda i: i[7],
    "iteration": lambda i: list(i),
    "asarray": lambda i: np.asarray(i),
}
"""

IN_PLACE = {
    "written over": "shutil.copyfile('second', 'x')",
    "written over, shorter": "shutil.copyfile('short', 'x')",
    "emptied": "os.truncate('x', 0)",
    "cut by a byte": "os.truncate('x', os.path.getsize('x') - 1)",
    "made longer": "open('x', 'ab').write(b'0')",
    "one byte written": "f = open('x', 'r+b'); f.seek(9000); f.write(b'0'); f.close()",
    "written over, with the times it had": """
shutil.copyfile('second', 'x')
os.utime('x', ns=(1, 1))
""",
    # whether bytes were written or only the time was set, the file does not tell
    "touched": "os.utime('x')",
}

ELSEWHERE = {
    "replaced": "shutil.copyfile('second', 'y'); os.replace('y', 'x')",
    "saved over": "cls.load('second').save('x')",
    "saved over by itself": "index.save('x')",
    "removed": "os.unlink('x')",
    "renamed": "os.rename('x', 'z')",
    "renamed and written anew": "os.rename('x', 'z'); shutil.copyfile('second', 'x')",
    "replaced by a link": "os.link('second', 'y'); os.replace('y', 'x')",
    "given another mode": "os.chmod('x', 0o600)",
    "given a second name": "os.link('x', 'link'); os.unlink('link')",
    "read": "open('x', 'rb').read()",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`first` and `second` of a class have the same size and nothing else in common."""
    where = tmp_path_factory.mktemp("mapped")
    rng = np.random.default_rng(1)
    np.save(where / "query.npy", rng.standard_normal(40).astype(np.float32))
    for name in CLASSES:
        (where / name).mkdir()
        for file, n in (("first", ROWS), ("second", ROWS), ("short", 20)):
            rows = rng.standard_normal((n, 40)).astype(np.float32)
            getattr(ruvector, name).build(rows).save(where / name / file)
    return where


def run(folder: pathlib.Path, code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-u", "-c", PREPARE + textwrap.dedent(code)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    died = f"{signal.Signals(-done.returncode).name} after " if done.returncode < 0 else ""
    assert done.returncode == 0, died + done.stdout[-200:] + done.stderr
    return done.stdout.splitlines()


def test_a_change_in_place_is_an_error_of_every_call(folder):
    lines = run(
        folder,
        f"""
changes = {IN_PLACE!r}
for cls in classes():
    loaded()
    calls = CALLS | OF_VECTORS if has_vectors() else CALLS
    cases = [(c, call, False) for c in changes for call in calls]
    cases += [(c, call, True) for c in changes for call in ("search", "search_batch")]
    for change, call, used in cases:
        index = loaded()
        if used:
            index.search(query, k=5)
        exec(changes[change])
        print(cls.__name__, change, call, used, end=": ")
        try:
            came = calls[call](index)
            print(str(came)[:60])
        except ruvector.PersistError as e:
            assert e.errno is None and os.fspath(e.path) == "x", (e.errno, e.path)
            assert "mmap=False" in str(e) and "x was changed" in str(e), str(e)
            assert len(index) == ROWS - 9 * (call == "vacuum")
            assert index.ids[-1] == ROWS - 1 and ROWS - 1 in index  # of copies
            print("refused")
""",
    )
    assert len(lines) >= 3 * 15 * len(IN_PLACE)
    assert [line for line in lines if not line.endswith(": refused")] == []


def test_what_leaves_the_bytes_alone_is_no_change(folder):
    lines = run(
        folder,
        f"""
changes = {ELSEWHERE!r}
for cls in classes():
    loaded()
    wanted = cls.load("first").search(query, k=5)
    for change, used in ((c, used) for c in changes for used in (False, True)):
        for left in ("link", "y", "z"):
            pathlib.Path(left).unlink(missing_ok=True)
        index = loaded()
        if used:
            index.search(query, k=5)
        exec(changes[change])
        same = index.search(query, k=5) == wanted and index == cls.load("first")
        index.add_batch(query[None])
        print(change, used, same and len(index) == ROWS + 1 and index.to_bytes() != b"")
    for change in {list(IN_PLACE.values())!r}:
        index = loaded(mmap=False)
        exec(change)
        print("in memory", index.search(query, k=5) == wanted and index == cls.load("first"))
""",
    )
    assert len(lines) == 3 * (2 * len(ELSEWHERE) + len(IN_PLACE))
    assert [line for line in lines if not line.endswith(" True")] == []


@pytest.mark.parametrize(
    "options",
    [
        {},  # vectors among records
        {"metric": "ip"},  # one after the other
        {"metric": "ip", "originals": "f16"},
    ],
)
def test_rows_of_a_mapped_file_that_stay(tmp_path, options):
    rows = np.random.default_rng(2).standard_normal((2000, 40)).astype(np.float32)
    ruvector.RabitqPlusIndex.build(rows, **options).save(tmp_path / "x")
    if options.get("originals") == "f16":
        rows = rows.astype(np.float16).astype(np.float32)
    index = ruvector.RabitqPlusIndex.load(tmp_path / "x")
    gone = [0, 1, 5, 700, 1999]
    assert index.remove(gone) == len(gone)
    assert index.memory_usage()["mapped"] > 0
    stay = np.setdiff1d(np.arange(2000), gone)
    for found in (index, ruvector.RabitqPlusIndex.from_bytes(index.to_bytes())):
        ids, vectors = zip(*found)
        assert np.array_equal(ids, stay)
        assert np.array_equal(vectors, rows[stay])
        assert np.allclose(found.norms, np.linalg.norm(rows[stay], axis=1))
        found.vacuum()
        assert np.array_equal(np.asarray(found), rows[stay])


def test_a_file_cut_during_a_call_that_copies(folder):
    """When that happens is left to chance; whenever it does, no signal comes of it."""
    run(
        folder,
        """
def cut(delay):
    threading.Event().wait(delay)
    os.truncate("x", 100)

*_, cls = classes()  # the last
for i in range(60):
    copying = [CALLS[name] for name in ("save", "save over", "to_bytes", "pickle", "norms")]
    do = copying[i % 5] if i % 2 else lambda index: cls.load("x", verify=True)
    index = loaded()
    thread = threading.Thread(target=cut, args=(i * 1e-5,))
    thread.start()
    try:
        do(index)
    except ruvector.PersistError:
        pass
    thread.join()

# Bytes given to from_bytes are used in place. Where they are changed afterwards, no number
# among them leads outside an array.
data = bytearray(pathlib.Path("first").read_bytes())
index = cls.from_bytes(data)
index.search(query, k=5)
ids = index.ids.tolist()
data[:] = b"\\xff" * len(data)
assert index.ids.tolist() == ids
index.search(query, k=5)
assert index.remove(ids[:50]) == 50
index.add_batch(query[None])
index.vacuum()
""",
    )


def test_descriptors(folder):
    """They are given back, may be taken away, and are not needed; children have their own."""
    lines = run(
        folder,
        """
import resource

*_, cls = classes()  # the last
kept = loaded()
wanted = kept.search(query, k=5)
lowest = os.dup(0)
os.close(lowest)
for _ in range(500):
    cls.load("x", verify=False)
again = os.dup(0)
os.close(again)
print(again == lowest)

child = os.fork()
if child == 0:
    same = kept.search(query, k=5) == wanted
    shutil.copyfile("second", "x")
    try:
        kept.search(query, k=5)
    except ruvector.PersistError:
        os._exit(0 if same else 2)
    os._exit(1)
print(os.waitpid(child, 0)[1] == 0)

kept = loaded()
vector = kept[7].tolist()
os.closerange(3, 64)  # as a program does that becomes a daemon
others = [os.open("second", os.O_RDONLY) for _ in range(3, 64)]
print(kept.search(query, k=5) == wanted and kept[7].tolist() == vector)
print(kept == cls.load("first"))
del kept
print([os.read(other, 1) for other in others] == [b"r"] * len(others))
os.closerange(3, 64)

resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))
many = [loaded() for _ in range(40)]
print(all(index.search(query, k=5) == wanted for index in many))
""",
    )
    assert lines == ["True"] * 6
