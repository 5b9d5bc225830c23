"""Where a model's files are looked for, in which order, and what is known by name.

Each place is a function that returns a model or raises `Unusable` with the
reason; `find_model` takes the first answer and otherwise reports every reason. Nothing
here touches the network before the last place, and that one only after every local
place has failed.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, Union, cast

from ..errors import EmbedError
from .download import LOCK, check_sha256, check_sizes, fetch, locked_revision
from .folder import GRAPHS, TextModel, Unusable, check_readable, expanded, read_folder, reason
from .image_folder import IMAGE_MODEL, SUFFIX, ImageModel, how_to_get
from .registry import HUB_MODELS, PACKAGED_MODELS, HubModel, PackagedFile

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Model = Union[TextModel, ImageModel]
T = TypeVar("T")
R = TypeVar("R")

ENTRY_POINT_GROUP = "ruvector.models"
REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
REVISION = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*")
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Request:
    """One call of `from_pretrained`, with its names worked out."""

    asked: str
    short: str
    repo: str
    known: HubModel | None
    revision: str | None
    local_files_only: bool
    cache_dir: str | os.PathLike[str] | None

    @property
    def cache(self) -> Path:
        """The folder of ruvector's cache; `Unusable` where it is below an unknown home."""
        return cache_root(self.cache_dir)

    @property
    def is_path(self) -> bool:
        """True when the text can only be meant as a path."""
        return REPO_ID.fullmatch(self.asked) is None

    @property
    def pinned(self) -> str | None:
        """The commit that stands for the name alone."""
        return self.known.revision if self.known else None

    def revisions(self) -> tuple[str, ...]:
        """Acceptable revisions in a local cache, best first."""
        if self.revision is not None:
            return (self.revision,)
        return (self.pinned, "main") if self.pinned else ("main",)

    def cached_folders(self) -> list[Path]:
        """Folders in ruvector's cache that stand for what was asked, best first."""
        folders = [self.cached(revision) for revision in self.revisions()]
        if self.revision is None:
            if not self.pinned:
                found = locked_folders(self.cached(""))
                folders += found if len(found) == 1 else []
            # A folder that someone copied there by hand.
            folders.append(self.cache / self.short)
        return list(dict.fromkeys(folders))

    def cached(self, revision: str) -> Path:
        """The folder of this model's `revision` in ruvector's cache."""
        return self.cache / self.repo.replace("/", "--") / revision


def find_model(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Model:
    """The model, from the first place that has it."""
    request = make_request(
        name_or_path, revision=revision, local_files_only=local_files_only, cache_dir=cache_dir
    )
    reasons = []
    for place, look in PLACES[:1] if request.is_path else PLACES:
        try:
            return look(request)
        except Unusable as why:
            reasons.append((place, str(why)))
        except OSError as why:
            reasons.append((place, reason(why)))
    raise EmbedError(
        _not_found(request, reasons),
        model=request.asked,
        looked_in=tuple(f"{place}: {reason}" for place, reason in reasons),
    )


def pull(
    name: str, *, revision: str | None = None, cache_dir: str | os.PathLike[str] | None = None
) -> Model:
    """The model in ruvector's cache, downloaded if it is not there yet."""
    request = make_request(name, revision=revision, cache_dir=cache_dir)
    if request.is_path:
        raise ValueError(f"{name!r} is a path; give the name of a model")
    try:
        return look_in_own_cache(request)
    except Unusable:
        pass
    try:
        return look_on_hub(request)
    except Unusable as why:
        raise EmbedError(f"{name}: {why}", model=name) from why


def make_request(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Request:
    """The call's arguments, checked, with the names worked out."""
    asked = os.fspath(name_or_path)
    if not isinstance(asked, str) or not asked:
        raise ValueError(f"name_or_path must be a non-empty str or path, got {asked!r}")
    _check_encodes(asked, "name_or_path")
    if cache_dir is not None:
        _check_encodes(os.fspath(cache_dir), "cache_dir")
    if revision is not None and not REVISION.fullmatch(revision):
        raise ValueError(f"revision must be a branch, tag or commit, got {revision!r}")
    short = next((s for s, m in HUB_MODELS.items() if asked in (s, m.repo)), asked)
    known = HUB_MODELS.get(short)
    return Request(
        asked=asked,
        short=short,
        repo=known.repo if known else asked,
        known=known,
        revision=revision,
        local_files_only=local_files_only,
        cache_dir=cache_dir,
    )


def _check_encodes(path: str | bytes, name: str) -> None:
    try:
        os.fsencode(path)
    except UnicodeEncodeError as why:
        raise ValueError(
            f"{name}: {path!r} holds a lone surrogate at character {why.start}"
        ) from None


def _not_found(request: Request, reasons: Iterable[tuple[str, str]]) -> str:
    lines = [f"model {request.asked!r} was not found. Looked at:"]
    lines += [f"  {place}: {reason}" for place, reason in reasons]
    if request.is_path:
        lines.append(
            f"Give a folder that holds {GRAPHS[0]} and tokenizer.json, or a listed name: "
            + ", ".join(sorted(HUB_MODELS))
        )
        return "\n".join(lines)
    if request.short == IMAGE_MODEL:
        with contextlib.suppress(Unusable):
            lines += how_to_get(request.cache)
        return "\n".join(lines)
    lines.append("To fetch it:")
    packaged = PACKAGED_MODELS.get(request.short)
    if packaged is not None and request.revision is None:
        lines.append(f"  {packaged.install}")
    wanted = request.revision or request.pinned or "COMMIT"
    lines.append(f"  ruvector models pull {request.asked} --revision {wanted}")
    lines.append(f"  hf download {request.repo} --revision {wanted}")
    if request.short not in HUB_MODELS:
        lines.append("Listed names: " + ", ".join(sorted(HUB_MODELS)))
    return "\n".join(lines)


def cache_root(cache_dir: str | os.PathLike[str] | None) -> Path:
    """The folder of ruvector's cache; `Unusable` where it is below an unknown home."""
    if cache_dir is None:
        cache_dir = os.environ.get("RUVECTOR_CACHE") or "~/.cache/ruvector/models"
    try:
        return expanded(cache_dir)
    except Unusable as why:
        raise Unusable(f"{why} or RUVECTOR_CACHE") from why


def locked_folders(root: Path) -> list[Path]:
    """Downloaded folders below `root`; `Unusable` where it cannot be looked through."""
    found: list[Path] = []

    def stop(why: OSError) -> None:
        if not isinstance(why, FileNotFoundError):
            raise Unusable(reason(why)) from why

    for folder, _, files in os.walk(root, onerror=stop):
        if LOCK in files:
            found.append(Path(folder))
    return sorted(found)


def _first_usable(look: Callable[[T], R], items: Iterable[T]) -> R:
    """The first item's look that works; otherwise all reasons in one `Unusable`."""
    reasons = []
    for item in items:
        try:
            return look(item)
        except Unusable as why:
            reasons.append(str(why))
        except OSError as why:
            reasons.append(reason(why))
    raise Unusable("; ".join(reasons))


def look_at_path(request: Request) -> Model:
    folder = expanded(request.asked)
    if folder.is_file():
        if folder.suffix == SUFFIX:
            check_readable(folder)
            return ImageModel(request.asked, f"file {folder}", folder)
        raise Unusable(f"{folder}: is a file; give the folder that holds it")
    return read_folder(folder, request.asked, f"folder {folder}")


def look_in_own_cache(request: Request) -> Model:
    def look(folder: Path) -> Model:
        check_sizes(folder)
        source = f"ruvector cache {folder}"
        return read_folder(folder, request.asked, source, locked_revision(folder))

    return _first_usable(look, request.cached_folders())


def look_in_hub_cache(request: Request) -> Model:
    root = _hub_cache_root() / ("models--" + request.repo.replace("/", "--"))
    if not stat.S_ISDIR(_mode(root)):
        raise Unusable(f"{root}: no such folder")

    def look(revision: str) -> Model:
        commit = revision
        if not COMMIT.fullmatch(revision):
            try:
                commit = (root / "refs" / revision).read_text().strip()
            except FileNotFoundError:
                raise Unusable(f"{root / 'refs' / revision}: no such revision") from None
        folder = root / "snapshots" / commit
        return read_folder(folder, request.asked, f"Hugging Face cache {folder}", commit)

    return _first_usable(look, request.revisions())


def _mode(path: Path) -> int:
    """0 where nothing is; what cannot be looked at raises."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _hub_cache_root() -> Path:
    """Where huggingface_hub keeps models, by its own documented variables."""
    env = os.environ
    if env.get("HF_HUB_CACHE"):
        return expanded(env["HF_HUB_CACHE"])
    home = env.get("HF_HOME")
    if not home:
        home = os.path.join(env.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return expanded(home) / "hub"


def look_at_entry_points(request: Request) -> Model:
    """Packages that announce a model: the entry's value is, or returns, its folder."""
    if request.revision is not None:
        raise Unusable(f"not asked: packages carry no revision {request.revision!r}")
    from importlib.metadata import entry_points

    found = entry_points()
    if hasattr(found, "select"):
        entries = list(found.select(group=ENTRY_POINT_GROUP))
    else:  # Python 3.9
        entries = list(found.get(ENTRY_POINT_GROUP, ()))
    names = (request.asked, request.short, request.repo)
    named = [entry for entry in entries if entry.name in names]
    if not named:
        others = ", ".join(sorted({entry.name for entry in entries})) or "none"
        raise Unusable(f"group {ENTRY_POINT_GROUP}: no such name (installed: {others})")

    def look(entry: EntryPoint) -> Model:
        try:
            value = entry.load()
            folder = Path(cast("str", value() if callable(value) else value))
        except Exception as why:  # foreign code
            raise Unusable(f"{entry.value}: {why!r}") from why
        return read_folder(folder, request.asked, f"package folder {folder}")

    return _first_usable(look, named)


def look_in_known_packages(request: Request) -> Model:
    if request.revision is not None:
        raise Unusable(f"not asked: packages carry no revision {request.revision!r}")
    packaged = PACKAGED_MODELS.get(request.short)
    if packaged is None:
        raise Unusable("none is known to carry this model")
    graph = _first_usable(_packaged_path, packaged.graphs)
    tokenizer = _first_usable(_packaged_path, packaged.tokenizers)
    return TextModel(
        name=request.asked,
        source=f"package folder {graph.parent}",
        graph=graph,
        tokenizer=tokenizer,
        pooling=packaged.pooling,
        normalize=packaged.normalize,
        max_length=packaged.max_length,
    )


def _packaged_path(file: PackagedFile) -> Path:
    """The installed file, found without running the package's code."""
    from importlib.util import find_spec

    spec = find_spec(file.package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / file.path
        if path.is_file():
            check_sha256(path, file.sha256)
            return path
    missing = f"has no {file.path}" if spec else "is not installed"
    raise Unusable(f"package {file.package} {missing}")


def look_on_hub(request: Request) -> Model:
    """Download into ruvector's cache; a folder appears there whole or not at all."""
    if request.local_files_only:
        raise Unusable("not asked, because local_files_only=True")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise Unusable("not asked, because HF_HUB_OFFLINE is set")
    if request.short == IMAGE_MODEL:
        raise Unusable("not asked, because no hub repository is known to carry it")
    revision = request.revision or request.pinned
    if revision is None:
        raise Unusable(
            "not asked, because no commit of this model is pinned: give one by revision="
        )
    final = request.cached(revision)
    fetch(request.repo, revision, final, request.known)
    return read_folder(
        final, request.asked, f"ruvector cache {final}, just downloaded", locked_revision(final)
    )


PLACES: tuple[tuple[str, Callable[[Request], Model]], ...] = (
    ("path", look_at_path),
    ("ruvector cache", look_in_own_cache),
    ("Hugging Face cache", look_in_hub_cache),
    ("entry points", look_at_entry_points),
    ("known packages", look_in_known_packages),
    ("network", look_on_hub),
)
