"""Image vectors agree with Pillow's resize and ONNX Runtime's network, bit by bit where
that can be."""

from __future__ import annotations

import mobilenet_reference as reference
import numpy as np
import pytest
import ruvector
from installed import need
from ruvector import _core

need("onnxruntime", "onnx", "PIL", "safetensors")

SIZES = np.random.default_rng(20).integers(1, 700, (20, 2)).tolist()
ODD_SIZES = [(1, 1), (256, 256), (257, 256), (256, 259), (2, 600), (900, 3), (1, 700), (513, 512)]


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    return reference.state_dict(seed=5)


@pytest.fixture(scope="module")
def weights(tensors, tmp_path_factory):
    return reference.save(tensors, tmp_path_factory.mktemp("weights") / "model.safetensors")


@pytest.fixture(scope="module")
def session(tensors):
    return reference.onnx_session(tensors)


@pytest.fixture(scope="module")
def embedder(weights):
    return ruvector.Embedder.from_pretrained(weights)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(21)
    return [reference.image_of(rng, *size) for size in SIZES]


def relative(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())


@pytest.mark.parametrize("size", [*ODD_SIZES, *map(tuple, SIZES)], ids=str)
def test_prepared_pixels_are_pillows(size: tuple[int, int], rng) -> None:
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    got = _core._image_prepare((image, *size)).reshape(224, 224, 3)
    assert np.array_equal(got, reference.prepare(image))
    levels = np.rint((got * reference.DEVIATION + reference.MEAN) * 255)
    in_one_call = reference.resized_crop(image, at_once=True)
    assert np.abs(levels - in_one_call).max() <= 1


def test_every_stage_is_that_of_onnx_runtime(weights, session, images) -> None:
    network = _core._mobilenet_load(weights)
    names = [f"stage{i}" for i in range(reference.STAGES)]
    worst = [0.0] * reference.STAGES
    for image in images:
        fed = np.ascontiguousarray(reference.prepare(image).transpose(2, 0, 1)[None])
        for i, want in enumerate(session.run(names, {"image": fed})):
            got = _core._mobilenet_stage(network, (image, *image.shape[:2]), i)
            rows = want[0].reshape(want.shape[1], -1).T
            assert got.shape == rows.shape
            worst[i] = max(worst[i], relative(got, rows))
    assert max(worst) < 1e-4, worst


def test_vectors_are_those_of_onnx_runtime(embedder, session, images) -> None:
    got = embedder.embed_image(images)
    for row, image in zip(got, images):
        fed = np.ascontiguousarray(reference.prepare(image).transpose(2, 0, 1)[None])
        (want,) = session.run(["pooled"], {"image": fed})[0]
        assert relative(row, want / np.linalg.norm(want)) < 1e-4
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, rtol=1e-6)


DIGEST = """
import hashlib, sys
import numpy as np, ruvector
embedder = ruvector.Embedder.from_pretrained(sys.argv[1])
images = np.random.default_rng(4).integers(0, 256, (3, 250, 330, 3), dtype=np.uint8)
found = embedder.embed_image(list(images))
print(ruvector.cpu_features()["active"], hashlib.sha256(found.tobytes()).hexdigest())
"""


def test_instruction_sets_and_threads_give_the_same_bits(weights, run_python) -> None:
    seen = {}
    for isa in ruvector.cpu_features()["available"]:
        threads = "1" if isa == "scalar" else "3"
        ran = run_python(DIGEST, str(weights), RUVECTOR_ISA=isa, RUVECTOR_NUM_THREADS=threads)
        active, digest = ran.stdout.split()
        seen[active] = digest
    assert set(seen) == set(ruvector.cpu_features()["available"])
    assert len(set(seen.values())) == 1


def test_one_image_and_many_give_the_same_bits(embedder, images) -> None:
    together = embedder.embed_image(images)
    assert together.shape == (len(images), 576)
    assert together.dtype == np.float32
    assert together.flags.c_contiguous
    for row, image in zip(together, images):
        alone = embedder.embed_image(image)
        assert alone.shape == (576,)
        assert np.array_equal(alone, row)


def test_limits_on_threads_change_no_bit(weights, images) -> None:
    ruvector.set_num_threads(4)
    one, *others = (
        ruvector.Embedder.from_pretrained(weights, threads=n).embed_image(images[:5])
        for n in (1, 2, 3, 9)
    )
    for other in others:
        assert np.array_equal(one, other)


def test_threads_may_share_an_embedder(embedder, images) -> None:
    from concurrent.futures import ThreadPoolExecutor

    want = embedder.embed_image(images[:6])
    with ThreadPoolExecutor(6) as callers:
        for _ in range(3):
            got = list(callers.map(embedder.embed_image, images[:6]))
            assert np.array_equal(np.stack(got), want)


def test_strides_and_read_only_arrays_are_fine(embedder, rng) -> None:
    bgr = rng.integers(0, 256, (90, 60, 3), dtype=np.uint8)
    want = embedder.embed_image(np.ascontiguousarray(bgr[::2, :, ::-1]))
    assert np.array_equal(embedder.embed_image(bgr[::2, :, ::-1]), want)
    locked = bgr.copy()
    locked.flags.writeable = False
    assert np.array_equal(embedder.embed_image([locked])[0], embedder.embed_image(bgr))


def test_no_images_give_no_rows(embedder) -> None:
    assert embedder.embed_image([]).shape == (0, 576)


def test_any_iterable_will_do(embedder, images) -> None:
    got = embedder.embed_image(image for image in images[:2])
    assert np.array_equal(got, embedder.embed_image(tuple(images[:2])))


def test_progress_counts_over_all_windows(embedder, images, monkeypatch) -> None:
    monkeypatch.setattr("ruvector.embed.image.WINDOW", 6)
    calls: list[tuple[int, int]] = []
    got = embedder.embed_image(images, progress=lambda *now: calls.append(now))
    assert np.array_equal(got[13], embedder.embed_image(images[13]))
    done = [d for d, _ in calls]
    assert done == sorted(done)
    assert calls[-1] == (20, 20)
    assert {total for _, total in calls} == {20}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_progress_can_stop_the_work(weights, images, monkeypatch, error) -> None:
    monkeypatch.setattr("ruvector.embed.image.WINDOW", 4)
    embedder = ruvector.Embedder.from_pretrained(weights)

    def stop(done: int, total: int) -> None:
        if done >= 4:
            raise error("enough")

    with pytest.raises(error, match="enough"):
        embedder.embed_image(images, progress=stop)
    assert embedder.stats.images <= 4
    assert embedder.embed_image(images[0]).shape == (576,)


def test_closing_during_a_call_is_told_to_the_call(weights, images, monkeypatch) -> None:
    monkeypatch.setattr("ruvector.embed.image.WINDOW", 4)
    embedder = ruvector.Embedder.from_pretrained(weights)
    with pytest.raises(ruvector.EmbedError, match="was closed"):
        embedder.embed_image(images[:12], progress=lambda done, total: embedder.close())
    with pytest.raises(ruvector.EmbedError, match="is closed"):
        embedder.embed_image(images[0])


def test_what_it_says_of_itself(weights) -> None:
    embedder = ruvector.Embedder.from_pretrained(weights, threads=3)
    assert isinstance(embedder, ruvector.Embedder)
    assert (embedder.name, embedder.source) == (str(weights), f"file {weights}")
    assert (embedder.dim, embedder.max_length, embedder.threads) == (576, 0, 3)
    assert embedder.files == (weights,)
    for part in ("Embedder(", "dim=576", "images", "threads=3"):
        assert part in repr(embedder)
    embedder.embed_image([np.zeros((5, 5, 3), dtype=np.uint8)] * 3)
    assert embedder.stats[:3] == (0, 0, 0)
    assert embedder.stats.images == 3
    assert embedder.stats.seconds > 0


def test_similar_images_are_closer(embedder, rng) -> None:
    image = reference.image_of(rng, 400, 300)
    other = reference.image_of(rng, 400, 300)
    brighter = np.clip(image.astype(int) + 10, 0, 255).astype(np.uint8)
    vectors = embedder.embed_image([image, brighter, other])
    index = ruvector.FlatF32Index.build(vectors[1:], metric="cosine")
    assert index.search(vectors[0], k=1)[0].id == 0
