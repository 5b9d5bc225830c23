"""Where an image model is found, and which files are taken for one."""

from __future__ import annotations

import json
import struct
from importlib.metadata import EntryPoint
from pathlib import Path

import mobilenet_reference as reference
import numpy as np
import pytest
from installed import need
from ruvector import Embedder, EmbedError

need("safetensors")

NAME = "mobilenetv3-small"
IMAGE = np.arange(30 * 40 * 3, dtype=np.uint8).reshape(30, 40, 3)


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    return reference.state_dict(seed=2)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Every place a model could come from, empty."""
    monkeypatch.setenv("RUVECTOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def put(folder: Path, tensors, name: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return reference.save(tensors, folder / name)


def check(embedder: Embedder, path: Path) -> None:
    assert embedder.files == (path,)
    assert embedder.embed_image(IMAGE).shape == (576,)


# ---- places -------------------------------------------------------------------------


def test_a_file(here, tensors) -> None:
    path = put(here / "any", tensors, "converted.safetensors")
    check(Embedder.from_pretrained(path), path)


@pytest.mark.parametrize("name", ["model.safetensors", "other.safetensors"])
def test_a_folder(here, tensors, name: str) -> None:
    path = put(here / "any", tensors, name)
    check(Embedder.from_pretrained(here / "any"), path)


def test_a_folder_with_several_files_means_the_one_called_model(here, tensors) -> None:
    path = put(here / "any", tensors)
    (here / "any" / "older.safetensors").write_bytes(b"")
    check(Embedder.from_pretrained(here / "any"), path)


@pytest.mark.parametrize("folder", [NAME, f"{NAME}/main"])
def test_ruvectors_cache(here, tensors, folder: str) -> None:
    path = put(here / "cache" / folder, tensors)
    check(Embedder.from_pretrained(NAME), path)
    check(Embedder.from_pretrained(NAME, cache_dir=here / "cache"), path)


def test_the_hugging_face_cache(here, tensors) -> None:
    root = here / "hub" / "models--maker--images"
    path = put(root / "snapshots" / ("a" * 40), tensors)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("a" * 40)
    check(Embedder.from_pretrained("maker/images"), path)


def test_an_entry_point(here, tensors, monkeypatch) -> None:
    path = put(here / "package", tensors)
    entry = EntryPoint(NAME, "pathlib:Path", "ruvector.models")

    class Found(list):
        def select(self, group: str) -> list[EntryPoint]:
            return [entry] if group == "ruvector.models" else []

    monkeypatch.setattr(EntryPoint, "load", lambda self: str(path.parent))
    monkeypatch.setattr("importlib.metadata.entry_points", Found)
    check(Embedder.from_pretrained(NAME), path)


def test_nothing_is_asked_of_the_network(here, tensors, monkeypatch) -> None:
    import socket

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    path = put(here / "cache" / NAME, tensors)
    check(Embedder.from_pretrained(NAME), path)
    with pytest.raises(EmbedError, match="not found"):
        Embedder.from_pretrained(NAME, cache_dir=here / "empty")


def test_nowhere(here) -> None:
    with pytest.raises(EmbedError) as caught:
        Embedder.from_pretrained(NAME)
    message = str(caught.value)
    assert len(caught.value.looked_in) == 6
    assert "no hub repository is known to carry it" in message
    assert str(here / "cache" / NAME / "model.safetensors") in message
    assert "mobilenet_v3_small(weights='IMAGENET1K_V1').state_dict()" in message


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "modules.json"])
def test_a_text_models_folder_is_none(here, tensors, name: str) -> None:
    put(here / "any", tensors)
    (here / "any" / name).write_text("{}")
    with pytest.raises(EmbedError, match="no ONNX graph"):
        Embedder.from_pretrained(here / "any")


# ---- files that are not the model ---------------------------------------------------


def refused(path: Path, says: str) -> None:
    with pytest.raises(EmbedError, match=says) as caught:
        Embedder.from_pretrained(path)
    assert str(path) in str(caught.value)
    assert caught.value.model == str(path)


def test_missing_tensors_and_wrong_shapes_are_named(here, tensors) -> None:
    name = "features.7.block.1.1.running_var"
    refused(
        put(here, {k: v for k, v in tensors.items() if k != name}),
        "features.7.block.1.1.running_var is missing: these are not the weights of torchvision",
    )
    refused(
        put(here, {**tensors, "features.0.0.weight": tensors["features.0.0.weight"][:, :1]}),
        r"features.0.0.weight has shape \[16, 1, 3, 3\], expected \[16, 3, 3, 3\]",
    )
    refused(
        put(here, {**tensors, "features.12.0.weight": tensors["features.12.0.weight"][..., 0]}),
        r"has shape \[576, 96, 1\], expected \[576, 96, 1, 1\]",
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
def test_wrong_dtypes_are_named(here, tensors, dtype) -> None:
    changed = {**tensors, "features.4.block.2.fc1.bias": np.zeros(24, dtype=dtype)}
    refused(put(here, changed), r"fc1.bias has dtype [FI]\d\d, expected F32: .*model.float\(\)")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(here, tensors, value) -> None:
    changed = {**tensors, "features.1.block.0.1.bias": np.full(16, value, dtype=np.float32)}
    refused(put(here, changed), "features.1.block.0 hold NaN, infinity")


def header_of(entries: object) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


def entry(begin: int, end: int, shape: list[int]) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it has 0 bytes"),
        (b"PK\x03\x04" + bytes(100), "a header of 67324752 bytes in a file of 104"),
        (struct.pack("<Q", 2**64 - 1) + b"{}", "a header of 18446744073709551615 bytes"),
        (struct.pack("<Q", 2**63), "a header of 9223372036854775808 bytes"),
        (header_of([1]), "header byte 0: expected '{'"),
        (header_of({"a": entry(0, 4, [1])}), "data_offsets inside the file"),
        (header_of({"a": entry(0, 2**64 - 1, [1])}) + bytes(4), "data_offsets inside"),
        (header_of({"a": entry(4, 0, [1])}) + bytes(4), "data_offsets inside"),
        (header_of({"a": entry(0, 4, [2**62 + 1])}) + bytes(4), "fit dtype and shape"),
        (header_of({"a": entry(0, 4, [2**64])}) + bytes(4), "a number below 2\\^64"),
        (header_of({"a": entry(0, 4, [-1])}) + bytes(4), "a whole number"),
        (
            header_of({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}) + bytes(12),
            "tensors overlap at byte 4",
        ),
        (header_of({"a": entry(4, 8, [1])}) + bytes(8), "no tensor begins at byte 0"),
        (header_of({"a": entry(0, 4, [1])}) + bytes(8), "take 4 bytes, the file holds 8"),
        (header_of({"__metadata__": {"format": "pt"}}), "features.0.0.weight is missing"),
        (struct.pack("<Q", 10**6) + b"[" * 10**6, "expected '{'"),
        (struct.pack("<Q", 10**6 + 5) + b'{"a":' + b"{" * 10**6, "expected '\"'"),
    ],
)
def test_hostile_files_are_refused(here, content: bytes, says: str) -> None:
    path = here / "model.safetensors"
    path.write_bytes(content)
    refused(path, says)


@pytest.mark.parametrize("keep", [0, 7, 8, 100, 5000, 40_000, -1, -4096])
def test_cut_files_are_refused(here, tensors, keep: int) -> None:
    path = put(here, tensors)
    path.write_bytes(path.read_bytes()[:keep])
    refused(path, "not a safetensors file")


def test_a_folder_in_place_of_the_weights_is_refused(here) -> None:
    (here / "any" / "model.safetensors").mkdir(parents=True)
    with pytest.raises(EmbedError, match=r"any: no ONNX graph"):
        Embedder.from_pretrained(here / "any")
    refused(here / "any" / "model.safetensors", "no ONNX graph")
