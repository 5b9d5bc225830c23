"""From the hub into ruvector's cache: a folder appears there whole or not at all.

Every downloaded folder holds `lock.json`: the repository, the commit the hub named, and
size and SHA-256 of each file as it came. Opening compares the sizes, `verify` the rest.
"""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .._extras import not_importable
from .folder import Unusable, needed_files, reason
from .quiet import before_import
from .registry import HubModel

LOCK = "lock.json"
# Folders under work start like this; a process that dies leaves one behind.
PARTIAL = ".partial-"
# Attempts to download while connections break.
DOWNLOAD_TURNS = 3
# Attempts to put a folder in its place while other processes do the same.
INSTALL_TURNS = 5


def fetch(repo: str, revision: str, final: Path, known: HubModel | None) -> None:
    """Download `repo` at `revision` to the folder `final`; `Unusable` says why not.

    Two processes may do so at once: both check what they have and either copy stays.
    """
    before_import("huggingface_hub")
    try:
        import huggingface_hub  # noqa: F401
    except Exception as why:
        wrong = not_importable(why, "huggingface_hub", "embed", "huggingface-hub")
        raise Unusable(f"it needs the package huggingface-hub, {wrong}") from why
    pinned = known.sha256 if known is not None and known.revision == revision else {}
    cache = final.parents[len(Path(revision).parts)]
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # Inside the cache, so that the rename stays on one file system.
        with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=cache) as partial:
            folder = Path(partial) / "model"
            commit = _snapshot(repo, revision, folder)
            for relative, expected in pinned.items():
                check_sha256(folder / relative, expected)
            _write_lock(folder, repo, commit)
            _install(folder, final, Path(partial) / "broken")
    except Unusable:
        raise
    except Exception as why:  # the hub's client raises its HTTP library's errors too
        raise Unusable(f"{repo} at {revision}: {_explain(why, cache)}") from why


def _snapshot(repo: str, revision: str, folder: Path) -> str:
    """Download the files a model needs and return the commit they are from."""
    from huggingface_hub import HfApi, snapshot_download

    info = HfApi().model_info(repo, revision=revision, timeout=30)
    commit = info.sha or revision
    names = {sibling.rfilename for sibling in info.siblings or ()}
    needed = needed_files(names, f"{repo} at {revision}")
    for left in reversed(range(DOWNLOAD_TURNS)):
        try:
            snapshot_download(
                repo_id=repo, revision=commit, allow_patterns=needed, local_dir=folder
            )
            break
        except Exception as why:
            # Older clients give up when a connection ends, but go on from there.
            if left == 0 or _is_final(why):
                raise
    # The client's notes about partial files.
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    return commit


def _install(folder: Path, final: Path, aside: Path) -> None:
    """Rename `folder` to `final`; what is not whole there goes to `aside`.

    Between two steps another process may do the same, so each may find `final` come or
    gone, and begins again.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    aside.mkdir()
    for left in reversed(range(INSTALL_TURNS)):
        try:
            folder.replace(final)
            return
        except OSError:
            if _is_whole(final):
                return
            if left == 0:
                raise
        with contextlib.suppress(FileNotFoundError):
            final.replace(aside / str(left))


def _is_whole(folder: Path) -> bool:
    try:
        check_sizes(folder)
    except Unusable:
        return False
    return (folder / LOCK).is_file()


def _is_final(why: BaseException) -> bool:
    """False where the connection may be at fault: nothing was answered, or not all of it."""
    return any(_is_lack_of_room(cause) or _status(cause) for cause in _causes(why))


def _is_lack_of_room(why: BaseException) -> bool:
    return isinstance(why, OSError) and why.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _status(why: BaseException) -> int | None:
    """The hub's answer that an error stands for, if it is one."""
    return getattr(getattr(why, "response", None), "status_code", None)


def _explain(why: BaseException, cache: Path) -> str:
    """One line for a failed download, with what can be done about it."""
    text = " ".join(f"{type(why).__name__}: {why}".split())
    for cause in _causes(why):
        if _is_lack_of_room(cause):
            return f"no room in {cache} ({text}); make room, or set RUVECTOR_CACHE elsewhere"
        if isinstance(cause, PermissionError):
            return f"{reason(cause)}; set RUVECTOR_CACHE to a folder you may write"
        status = _status(cause)
        if status == 429:
            return f"the hub asks to slow down ({text}); wait some minutes, or set HF_TOKEN"
        if status in (401, 403, 404):
            return f"no such model or revision, or a private one ({text}); HF_TOKEN logs in"
    return text


def _causes(why: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while why is not None and id(why) not in seen:
        seen.add(id(why))
        yield why
        why = why.__cause__ or why.__context__


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    import hashlib

    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def check_sha256(path: Path, expected: str) -> None:
    """`Unusable` if the file is not the one expected."""
    try:
        found = sha256(path)
    except OSError as why:
        raise Unusable(reason(why)) from why
    if found != expected:
        raise Unusable(f"{path}: SHA-256 is {found}, expected {expected}")


def _write_lock(folder: Path, repo: str, commit: str) -> None:
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": sha256(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    lock = {"repo": repo, "revision": commit, "files": files}
    (folder / LOCK).write_text(json.dumps(lock, indent=1) + "\n", encoding="utf-8")


def read_lock(folder: Path) -> dict[str, Any] | None:
    """The folder's `lock.json`, or None where there is none."""
    path = folder / LOCK
    try:
        lock = json.loads(path.read_bytes())
        for entry in lock["files"].values():
            _ = entry["bytes"] + 0, entry["sha256"] + ""
        _ = lock["repo"] + "", lock["revision"] + ""
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as why:
        raise Unusable(reason(why)) from why
    except (ValueError, KeyError, TypeError, AttributeError) as why:
        raise Unusable(f"{path}: not readable ({why!r}); delete the folder") from why
    return dict(lock)


def locked_revision(folder: Path) -> str | None:
    """The commit of a downloaded folder."""
    lock = read_lock(folder)
    return lock["revision"] if lock else None


def check_sizes(folder: Path) -> None:
    """`Unusable` if a downloaded folder's files have gone or changed their size."""
    lock = read_lock(folder) or {"files": {}}
    for relative, entry in lock["files"].items():
        path = folder / relative
        try:
            size = path.stat().st_size if path.is_file() else None
        except OSError as why:
            raise Unusable(reason(why)) from why
        if size != entry["bytes"]:
            raise Unusable(f"{path}: {size} bytes, {entry['bytes']} were downloaded")


def verify(folder: Path) -> list[str]:
    """What is wrong with a downloaded folder; nothing if each file is as it came."""
    wrong = []
    try:
        lock = read_lock(folder)
        for relative, entry in (lock["files"] if lock else {}).items():
            try:
                check_sha256(folder / relative, entry["sha256"])
            except Unusable as why:
                wrong.append(str(why))
    except Unusable as why:
        wrong.append(str(why))
    return wrong
