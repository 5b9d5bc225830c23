"""What a sentence-transformers folder says about its model.

A folder is usable when it holds an ONNX graph and a `tokenizer.json`. Everything that
changes the vectors is read from its JSON files; a setting this package cannot follow
makes the folder unusable, because vectors that are almost right cannot be told from
right ones later. Where a folder is silent these defaults hold: mean pooling, unit
norm, 512 tokens.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .image_folder import ImageModel, find_weights

# float32 first, then the optimized copies with the same arithmetic.
GRAPHS = (
    "onnx/model.onnx",
    "model.onnx",
    "onnx/model_O3.onnx",
    "onnx/model_O2.onnx",
    "onnx/model_O1.onnx",
)
# 8-bit weights for any CPU, used where a folder has nothing better.
QUANTIZED_GRAPHS = (
    "onnx/model_quantized.onnx",
    "model_quantized.onnx",
    "onnx/model_int8.onnx",
    "onnx/model_uint8.onnx",
)
TOKENIZER = "tokenizer.json"
# sentence-transformers reads the first that is there: early versions named the file after
# the kind of the model.
TRANSFORMER_SETTINGS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_IN_FOLDERS = tuple("/" + name for name in TRANSFORMER_SETTINGS)
POOLINGS = ("mean", "cls", "max")
DEFAULT_MAX_LENGTH = 512
# transformers writes 1e30 for "no limit"; nothing real comes near this.
MAX_LENGTH_LIMIT = 1_000_000

# Models whose first token has the position after that of padding (`pad_token_id`, 1 where
# config.json has none), so that many of the table's rows are not for tokens: transformers'
# `create_position_ids_from_input_ids`.
COUNT_AFTER_PADDING = (
    *("camembert", "data2vec-text", "ibert", "layoutlmv3", "lilt", "longformer", "luke"),
    *("markuplm", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl"),
    "xmod",
)
# Models with a table of positions that begins with the first token.
COUNT_FROM_ZERO = ("albert", "bert", "convbert", "distilbert", "electra", "ernie", "mobilebert")

# Flags of 1_Pooling/config.json as sentence-transformers wrote them before 6.0.
POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


class Unusable(Exception):
    """Why a place does not give the model; the search goes on with the next place."""


@dataclass(frozen=True)
class TextModel:
    """The files of one model and how its token vectors become one vector."""

    name: str
    source: str
    graph: Path
    tokenizer: Path
    pooling: str = "mean"
    normalize: bool = True
    max_length: int = DEFAULT_MAX_LENGTH
    # The side of a long text that is cut off; None where tokenizer.json says.
    cut: str | None = None
    lower_case: bool = False
    revision: str | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None


def read_folder(
    folder: Path, name: str, source: str, revision: str | None = None
) -> TextModel | ImageModel:
    """The model in `folder`; `Unusable` says what is missing or not supported."""
    names = set(list_files(folder))
    weights = find_weights(names)
    if weights is not None:
        check_readable(folder / weights)
        return ImageModel(name, source, folder / weights, revision)
    graph = _find_graph(names, folder)
    for file in (graph, TOKENIZER):
        check_readable(folder / file)
    pooling, normalize = _read_modules(folder)
    prompts, default_prompt = _read_prompts(folder)
    transformer = _read_transformer(folder)
    tokenizing = _read_object(folder / "tokenizer_config.json")
    return TextModel(
        name=name,
        source=source,
        graph=folder / graph,
        tokenizer=folder / TOKENIZER,
        pooling=pooling,
        normalize=normalize,
        max_length=_read_max_length(folder, transformer, tokenizing),
        cut=_read_cut(folder, tokenizing),
        lower_case=transformer.get("do_lower_case") is True,
        revision=revision,
        prompts=prompts,
        default_prompt=default_prompt,
    )


def list_files(folder: Path) -> Iterator[str]:
    """Names of the files in a folder, and in `onnx` below it; `Unusable` where they cannot
    be listed."""
    for inside in (folder, folder / "onnx"):
        try:
            paths = sorted(inside.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            if inside == folder:
                raise Unusable(f"{folder}: no such folder") from None
            continue
        except OSError as why:
            raise Unusable(reason(why)) from why
        for path in paths:
            with contextlib.suppress(OSError):  # a link to where nothing can be seen
                if path.is_file():
                    yield path.relative_to(folder).as_posix()


def check_readable(path: Path) -> None:
    """`Unusable` for a file that this process may not read."""
    try:
        path.open("rb").close()
    except OSError as why:
        raise Unusable(reason(why)) from why


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with `~` replaced by the home; `Unusable` where that is not known."""
    try:
        return Path(path).expanduser()
    except RuntimeError as why:
        raise Unusable(f"{path}: the home is not known ({why}); set HOME") from why


def reason(why: OSError) -> str:
    """What the system says, and of which file."""
    said = why.strerror or str(why)
    return f"{why.filename}: {said}" if why.filename else said


def needed_files(names: Collection[str], where: object) -> list[str]:
    """Those of a repository's files that its model needs; `Unusable` if it holds none."""
    weights = find_weights(names)
    if weights is not None:
        return [weights]
    graph = _find_graph(names, where)
    settings = (
        name
        for name in names
        if (name.endswith(".json") and "/" not in name)
        or (name.count("/") == 1 and name.endswith(("/config.json", *_IN_FOLDERS)))
    )
    # A graph over 2 GB keeps its weights beside it, in files whose names begin with its own.
    return sorted({*settings, *(name for name in names if name.startswith(graph))})


def _cpu_graphs() -> Iterator[str]:
    """Names of 8-bit graphs made for this CPU, best first, as sentence-transformers and
    Optimum write them. The others may give wrong values: without VNNI, products of
    signed bytes overflow 16-bit sums."""
    from .._core import cpu_features

    has = cpu_features()["available"]
    if "avx512vbmi" in has:  # these CPUs, as the kernels ask for them, have VNNI too
        yield "onnx/model_qint8_avx512_vnni.onnx"
    if "avx512" in has:
        yield "onnx/model_qint8_avx512.onnx"
    if "avx2" in has:
        yield "onnx/model_quint8_avx2.onnx"
    if platform.machine().lower() in ("arm64", "aarch64"):
        yield "onnx/model_qint8_arm64.onnx"


def _find_graph(names: Collection[str], where: object) -> str:
    """The graph to run, of a folder's files; they hold the tokenizer too."""
    known = (*GRAPHS, *_cpu_graphs(), *QUANTIZED_GRAPHS)
    graph = next((name for name in known if name in names), None)
    if graph is None:
        others = sorted(
            name
            for name in names
            if name.endswith(".onnx") and name.rpartition("/")[0] in ("", "onnx")
        )
        if not others:
            raise Unusable(f"{where}: no ONNX graph ({GRAPHS[0]})")
        if len(others) > 1:
            listed = ", ".join(others)
            raise Unusable(f"{where}: several ONNX graphs ({listed}) and no {GRAPHS[0]}")
        graph = others[0]
    if TOKENIZER not in names:
        raise Unusable(f"{where}: no {TOKENIZER}")
    return graph


def _read_json(path: Path) -> Any:
    """The parsed file, or None where there is none."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as why:
        raise Unusable(reason(why)) from why
    except ValueError as why:
        raise Unusable(f"{path}: not readable as JSON ({why})") from why


def _read_object(path: Path) -> dict[str, Any]:
    value = _read_json(path)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unusable(f"{path}: holds no JSON object")
    return value


def _read_modules(folder: Path) -> tuple[str, bool]:
    """Pooling and whether vectors are normalized, from `modules.json`."""
    path = folder / "modules.json"
    modules = _read_json(path)
    if modules is None:
        return _read_pooling(folder / "1_Pooling" / "config.json"), True
    if not isinstance(modules, list) or not all(isinstance(m, dict) for m in modules):
        raise Unusable(f"{path}: holds no list of modules")
    pooling, normalize = "mean", False
    for module in modules:
        kind = str(module.get("type")).rpartition(".")[2]
        if kind == "Pooling":
            where = str(module.get("path", "1_Pooling"))
            pooling = _read_pooling(folder / where / "config.json")
        elif kind == "Normalize":
            normalize = True
        elif kind != "Transformer":
            raise Unusable(
                f"{path}: module {kind!r} is not supported "
                "(only Transformer, Pooling and Normalize are)"
            )
    return pooling, normalize


def _read_transformer(folder: Path) -> dict[str, Any]:
    """Length and case, from the folder that `modules.json` names or from the first one."""
    modules = _read_json(folder / "modules.json") or []
    kinds = {str(m.get("type")).rpartition(".")[2]: m.get("path") for m in modules}
    for place in dict.fromkeys((str(kinds.get("Transformer") or "."), ".")):
        for name in TRANSFORMER_SETTINGS:
            if _read_json(folder / place / name) is not None:
                return _read_object(folder / place / name)
    return {}


def _read_pooling(path: Path) -> str:
    config = _read_object(path)
    if config.get("include_prompt") is False:
        raise Unusable(f"{path}: include_prompt false is not supported")
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in POOLING_FLAGS.items() if config.get(flag)]
    elif isinstance(modes, str):
        modes = [modes]
    if not modes:
        return "mean"
    if len(modes) > 1 or modes[0] not in POOLINGS:
        asked = " + ".join(map(str, modes))
        raise Unusable(f"{path}: pooling {asked!r} is not supported ({', '.join(POOLINGS)} are)")
    return str(modes[0])


def _read_max_length(folder: Path, transformer: dict[str, Any], tokenizing: dict[str, Any]) -> int:
    """Tokens a text is cut to, special tokens included."""
    config = _read_object(folder / "config.json")
    positions = _positions(config)
    chosen = _lengths(transformer.get("max_seq_length"))
    limits = _lengths(tokenizing.get("model_max_length"), positions)
    length = min(chosen or limits, default=DEFAULT_MAX_LENGTH)
    # A table of positions has an end, whatever was chosen.
    return min([length, *_lengths(positions)]) if _has_position_table(config) else length


def _positions(config: dict[str, Any]) -> Any:
    """How many tokens have a position, as `config.json` tells it."""
    positions = config.get("max_position_embeddings")
    if type(positions) is int and config.get("model_type") in COUNT_AFTER_PADDING:
        padding = config.get("pad_token_id", 1)
        positions -= (padding if type(padding) is int else 1) + 1
    return positions


def _has_position_table(config: dict[str, Any]) -> bool:
    kind = config.get("model_type")
    learned = config.get("position_embedding_type", "absolute") == "absolute"
    return learned and (kind in COUNT_AFTER_PADDING or kind in COUNT_FROM_ZERO)


def _read_cut(folder: Path, tokenizing: dict[str, Any]) -> str | None:
    side = tokenizing.get("truncation_side")
    if side not in (None, "left", "right"):
        raise Unusable(f"{folder / 'tokenizer_config.json'}: truncation_side is {side!r}")
    return side


def _lengths(*values: Any) -> list[int]:
    """Those of the values that can be a number of tokens."""
    return [v for v in values if type(v) is int and 0 < v <= MAX_LENGTH_LIMIT]


def _read_prompts(folder: Path) -> tuple[dict[str, str], str | None]:
    """The prefixes by name, and the name of the one that goes before every text."""
    path = folder / "config_sentence_transformers.json"
    config = _read_object(path)
    prompts = config.get("prompts") or {}
    default = config.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(isinstance(p, str) for p in prompts.values()):
        raise Unusable(f"{path}: prompts are not texts by name")
    if default is not None and default not in prompts:
        raise Unusable(f"{path}: default_prompt_name {default!r} is not among the prompts")
    return prompts, default
