"""What is read from a sentence-transformers folder, and what makes one unusable."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest
import ruvector
from ruvector.embed.folder import Unusable, needed_files, read_folder

TRANSFORMER = {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}
POOLING = {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
NORMALIZE = {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
# The module names that sentence-transformers 6 writes.
NEW_POOLING = {
    **POOLING,
    "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
}


def write(folder: Path, files: dict[str, object]) -> Path:
    for name, content in {"tokenizer.json": {}, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_a_silent_folder_gets_the_documented_defaults(tmp_path: Path) -> None:
    write(tmp_path, {"onnx/model.onnx": "graph"})
    model = read_folder(tmp_path, "name", "source")
    assert (model.name, model.source) == ("name", "source")
    assert model.graph == tmp_path / "onnx" / "model.onnx"
    assert model.tokenizer == tmp_path / "tokenizer.json"
    assert (model.pooling, model.normalize, model.max_length) == ("mean", True, 512)
    assert model.lower_case is False


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode_mean_tokens": False}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["max"]}, "max"),
        ({}, "mean"),
    ],
)
@pytest.mark.parametrize("module", [POOLING, NEW_POOLING])
def test_pooling_is_read(tmp_path: Path, config, pooling: str, module) -> None:
    files = {"modules.json": [TRANSFORMER, module], "1_Pooling/config.json": config}
    write(tmp_path, {"model.onnx": "graph", **files})
    assert read_folder(tmp_path, "n", "s").pooling == pooling


def test_pooling_is_read_from_the_place_that_modules_json_names(tmp_path: Path) -> None:
    files = {
        "modules.json": [TRANSFORMER, {**POOLING, "path": "pool"}],
        "pool/config.json": {"pooling_mode": "cls"},
        "1_Pooling/config.json": {"pooling_mode": "max"},
    }
    write(tmp_path, {"model.onnx": "graph", **files})
    assert read_folder(tmp_path, "n", "s").pooling == "cls"


def test_pooling_is_read_without_modules_json(tmp_path: Path) -> None:
    write(tmp_path, {"model.onnx": "g", "1_Pooling/config.json": {"pooling_mode": "cls"}})
    model = read_folder(tmp_path, "n", "s")
    assert (model.pooling, model.normalize) == ("cls", True)


@pytest.mark.parametrize(
    ("modules", "normalize"),
    [([TRANSFORMER, POOLING], False), ([TRANSFORMER, POOLING, NORMALIZE], True)],
)
def test_normalization_is_what_modules_json_says(tmp_path: Path, modules, normalize) -> None:
    write(tmp_path, {"model.onnx": "graph", "modules.json": modules})
    assert read_folder(tmp_path, "n", "s").normalize is normalize


@pytest.mark.parametrize(
    ("files", "length"),
    [
        ({"sentence_bert_config.json": {"max_seq_length": 256}}, 256),
        ({"tokenizer_config.json": {"model_max_length": 384}}, 384),
        ({"config.json": {"max_position_embeddings": 514}}, 514),
        (
            {
                "tokenizer_config.json": {"model_max_length": 8192},
                "config.json": {"max_position_embeddings": 512},
            },
            512,
        ),
        (
            {
                "tokenizer_config.json": {"model_max_length": 128},
                "config.json": {"max_position_embeddings": 512},
            },
            128,
        ),
        ({"sentence_bert_config.json": {"max_seq_length": True}}, 512),
        (
            {
                "sentence_bert_config.json": {"max_seq_length": 128},
                "tokenizer_config.json": {"model_max_length": 512},
                "config.json": {"max_position_embeddings": 1024},
            },
            128,
        ),
        ({"sentence_bert_config.json": {"max_seq_length": None}}, 512),
        # How transformers writes "no limit".
        ({"tokenizer_config.json": '{"model_max_length": 1000000000000000019884624838656}'}, 512),
    ],
)
def test_length_is_what_the_files_say(tmp_path: Path, files, length: int) -> None:
    write(tmp_path, {"model.onnx": "graph", **files})
    assert read_folder(tmp_path, "n", "s").max_length == length


# sentence-transformers' `Transformer.load` takes the first of these.
KINDS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["", "0_Transformer"])
def test_settings_under_every_name(tmp_path: Path, kind: str, place: str) -> None:
    settings = {"max_seq_length": 77, "do_lower_case": True}
    files = {
        "modules.json": [{**TRANSFORMER, "path": place}, POOLING],
        f"{place}/sentence_{kind}_config.json".lstrip("/"): settings,
    }
    write(tmp_path, {"model.onnx": "g", **files})
    model = read_folder(tmp_path, "n", "s")
    assert (model.max_length, model.lower_case) == (77, True)
    assert set(files) < set(needed_files({"model.onnx", "tokenizer.json", *files}, "here"))


def test_the_first_of_several_settings_counts(tmp_path: Path) -> None:
    lengths = {f"sentence_{kind}_config.json": 100 + i for i, kind in enumerate(KINDS)}
    write(tmp_path, {"model.onnx": "g"})
    for name, length in reversed(lengths.items()):
        write(tmp_path, {name: {"max_seq_length": length}})
        assert read_folder(tmp_path, "n", "s").max_length == length


def test_lower_case_is_read(tmp_path: Path) -> None:
    write(tmp_path, {"model.onnx": "g", "sentence_bert_config.json": {"do_lower_case": True}})
    assert read_folder(tmp_path, "n", "s").lower_case is True


@pytest.mark.parametrize(
    ("graphs", "chosen"),
    [
        (["model.onnx", "onnx/model.onnx"], "onnx/model.onnx"),
        (["onnx/model_quantized.onnx", "model.onnx"], "model.onnx"),
        (["onnx/model_quantized.onnx", "onnx/model_O3.onnx"], "onnx/model_O3.onnx"),
        (["onnx/model_O4.onnx", "onnx/model_quantized.onnx"], "onnx/model_quantized.onnx"),
        (["onnx/model_qint8_avx512.onnx"], "onnx/model_qint8_avx512.onnx"),
        (["bert.onnx"], "bert.onnx"),
    ],
)
def test_the_graph_is_chosen_by_name(tmp_path: Path, graphs, chosen: str) -> None:
    write(tmp_path, dict.fromkeys(graphs, "graph"))
    assert read_folder(tmp_path, "n", "s").graph == tmp_path / chosen


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, r"no ONNX graph \(onnx/model\.onnx\)"),
        ({"a.onnx": "", "onnx/b.onnx": ""}, r"several ONNX graphs \(a\.onnx, onnx/b\.onnx\)"),
        ({"model.onnx": "", "modules.json": "[{"}, r"modules\.json: not readable as JSON"),
        ({"model.onnx": "", "modules.json": {}}, "no list of modules"),
        ({"model.onnx": "", "modules.json": ["x"]}, "no list of modules"),
        ({"model.onnx": "", "config.json": []}, r"config\.json: holds no JSON object"),
        (
            {"model.onnx": "", "modules.json": [{"type": "sentence_transformers.models.Dense"}]},
            "module 'Dense' is not supported",
        ),
        (
            {
                "model.onnx": "",
                "1_Pooling/config.json": {"pooling_mode_mean_sqrt_len_tokens": True},
            },
            r"pooling 'mean_sqrt_len_tokens' is not supported \(mean, cls, max are\)",
        ),
        (
            {"model.onnx": "", "1_Pooling/config.json": {"pooling_mode": ["mean", "max"]}},
            r"pooling 'mean \+ max' is not supported",
        ),
    ],
)
def test_unusable_folders_say_why(tmp_path: Path, files, reason: str) -> None:
    write(tmp_path, files)
    with pytest.raises(Unusable, match=reason):
        read_folder(tmp_path, "n", "s")


def test_a_folder_without_tokenizer_says_so(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    with pytest.raises(Unusable, match=r"no tokenizer\.json"):
        read_folder(tmp_path, "n", "s")


def test_no_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="absent: no such folder"):
        read_folder(tmp_path / "absent", "n", "s")


MARKED = [
    "onnx/model_qint8_arm64.onnx",
    "onnx/model_qint8_avx512.onnx",
    "onnx/model_qint8_avx512_vnni.onnx",
    "onnx/model_quint8_avx2.onnx",
    "onnx/model_quantized.onnx",
]


@pytest.mark.parametrize(
    ("available", "machine", "chosen"),
    [
        (["avx512vbmi", "avx512", "avx2", "scalar"], "x86_64", "onnx/model_qint8_avx512_vnni.onnx"),
        (["avx512", "avx2", "scalar"], "x86_64", "onnx/model_qint8_avx512.onnx"),
        (["avx2", "scalar"], "AMD64", "onnx/model_quint8_avx2.onnx"),
        (["scalar"], "x86_64", "onnx/model_quantized.onnx"),
        (["neon", "scalar"], "aarch64", "onnx/model_qint8_arm64.onnx"),
    ],
)
def test_the_8_bit_graph_fits_the_cpu(tmp_path, monkeypatch, available, machine, chosen) -> None:
    monkeypatch.setattr(ruvector._core, "cpu_features", lambda: {"available": available})
    monkeypatch.setattr(platform, "machine", lambda: machine)
    write(tmp_path, dict.fromkeys(MARKED, "graph"))
    assert read_folder(tmp_path, "n", "s").graph == tmp_path / chosen
    write(tmp_path, {"onnx/model.onnx": "graph"})
    assert read_folder(tmp_path, "n", "s").graph == tmp_path / "onnx/model.onnx"


def test_prompts_are_read(tmp_path: Path) -> None:
    config = {"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": "query"}
    write(tmp_path, {"model.onnx": "graph", "config_sentence_transformers.json": config})
    model = read_folder(tmp_path, "n", "s")
    assert (dict(model.prompts), model.default_prompt) == (config["prompts"], "query")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"prompts": ["query: "]}, "not texts by name"),
        ({"prompts": {"query": 1}}, "not texts by name"),
        ({"default_prompt_name": "query"}, "'query' is not among the prompts"),
    ],
)
def test_prompts_that_cannot_be_followed_are_refused(tmp_path: Path, config, says: str) -> None:
    write(tmp_path, {"model.onnx": "graph", "config_sentence_transformers.json": config})
    with pytest.raises(Unusable, match=says):
        read_folder(tmp_path, "n", "s")


def test_pooling_without_the_prompt_is_refused(tmp_path: Path) -> None:
    config = {"pooling_mode": "mean", "include_prompt": False}
    write(tmp_path, {"model.onnx": "graph", "1_Pooling/config.json": config})
    with pytest.raises(Unusable, match="include_prompt"):
        read_folder(tmp_path, "n", "s")
