"""The clustered Gaussian set of the ruvector-rabitq demo, byte for byte.

The demo draws everything from one ChaCha12 stream: centroids uniform in
[-2, 2), then, point by point, the number of a centroid and one normal deviate
per coordinate, by rejection. How many words a point takes is known only after
they are drawn, so the work is split: candidates for every stream position are
computed with NumPy, and a short Python loop visits the few positions (about
one in a hundred) where a draw was rejected. The stream is seekable, which
bounds the memory to one block of points.
"""

from __future__ import annotations

import math

import numpy as np

_U64 = (1 << 64) - 1
_POINTS_PER_BLOCK = 4096


class Stream:
    """ChaCha with 12 rounds, 64-bit block counter from 0, nonce 0."""

    def __init__(self, seed: int) -> None:
        self._key = np.array(_key_words(seed), dtype=np.uint32)

    def words(self, start: int, count: int) -> np.ndarray:
        """Words start..start+count of the stream, as uint32."""
        first, last = start // 16, -(-(start + count) // 16)
        parts = [self._blocks(b, min(b + 4096, last)) for b in range(first, last, 4096)]
        return np.concatenate(parts)[start - 16 * first :][:count]

    def longs(self, start: int, count: int) -> np.ndarray:
        """`count` uint64 from word `start` on; the first word is the low half."""
        return np.ascontiguousarray(self.words(start, 2 * count)).view("<u8")

    def _blocks(self, begin: int, end: int) -> np.ndarray:
        counter = np.arange(begin, end, dtype=np.uint64)
        state = np.empty((16, end - begin), dtype=np.uint32)
        state[:4] = np.frombuffer(b"expand 32-byte k", dtype="<u4")[:, None]
        state[4:12] = self._key[:, None]
        state[12] = counter.astype(np.uint32)
        state[13] = (counter >> np.uint64(32)).astype(np.uint32)
        state[14:] = 0
        x = [row.copy() for row in state]
        for _ in range(6):
            for i in range(4):
                _quarter_round(x, i, 4 + i, 8 + i, 12 + i)
            for i in range(4):
                _quarter_round(x, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
        return (np.stack(x) + state).T.reshape(-1)


def _quarter_round(x: list, a: int, b: int, c: int, d: int) -> None:
    for s, t, u, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        x[s] += x[t]
        x[u] ^= x[s]
        x[u] = (x[u] << np.uint32(bits)) | (x[u] >> np.uint32(32 - bits))


def _key_words(seed: int) -> list:
    """The 64-bit seed stretched to eight key words by a PCG32 generator."""
    words, s = [], seed
    for _ in range(8):
        s = (s * 6364136223846793005 + 11634580027462260723) & _U64
        x = (((s >> 18) ^ s) >> 27) & 0xFFFFFFFF
        rot = s >> 59
        words.append(((x >> rot) | (x << (32 - rot))) & 0xFFFFFFFF)
    return words


class _Ziggurat:
    """Normal deviates from 256 layers of equal area (Marsaglia and Tsang 2000)."""

    R = 3.654152885361008796
    AREA = 0.00492867323399

    def __init__(self) -> None:
        edge = [self.AREA / math.exp(-self.R * self.R / 2), self.R]
        for _ in range(2, 256):
            x = edge[-1]
            edge.append(math.sqrt(-2 * math.log(self.AREA / x + math.exp(-x * x / 2))))
        self.edge = np.array([*edge, 0.0])
        self.height = [math.exp(-x * x / 2) for x in self.edge.tolist()]

    def candidates(self, longs: np.ndarray) -> tuple:
        """(value, accepted at once) for a draw that starts at each position."""
        layer = (longs & np.uint64(255)).astype(np.intp)
        u = (np.uint64(1024 << 52) | (longs >> np.uint64(12))).view(np.float64) - 3.0
        value = u * self.edge[layer]
        return value, np.abs(value) < self.edge[layer + 1]

    def in_wedge(self, long: int, value: float, next_long: int) -> bool:
        i = long & 255
        low, high = self.height[i + 1], self.height[i]
        y = low + (high - low) * ((next_long >> 11) * 2.0**-53)
        return y < math.exp(-value * value / 2)

    def tail(self, negative: bool, longs: np.ndarray, at: int) -> tuple:
        """(value, position after the draw) beyond R."""
        unit = (np.uint64(1023 << 52) | (longs[at : at + 512] >> np.uint64(12))).view(
            np.float64
        ) - (1.0 - 2.0**-53)
        for a, c in zip(unit[::2].tolist(), unit[1::2].tolist()):
            at += 2
            p, y = math.log(a) / self.R, math.log(c)
            if -2 * y >= p * p:
                return (p - self.R if negative else self.R - p), at
        raise AssertionError("256 rejections in a row")


class _Points:
    """Reads points off the stream, from word `start` on."""

    def __init__(self, stream: Stream, start: int, centroids: np.ndarray) -> None:
        self._stream, self._word, self._centroids = stream, start, centroids
        self._ziggurat = _Ziggurat()

    def take(self, n: int) -> np.ndarray:
        """The next n points, n x dim float32."""
        n_centers, dim = self._centroids.shape
        # A draw takes 1.02 longs on average, a centroid number at most 2.
        reserve = int(1.1 * n * (dim + 2)) + 4096
        longs = self._stream.longs(self._word, reserve)
        values, accepted = self._ziggurat.candidates(longs)
        slow = np.append(np.flatnonzero(~accepted), reserve).tolist()
        zone = ((n_centers << (64 - n_centers.bit_length())) - 1) & _U64

        chosen, starts, lengths, tails = [], [], [], []
        pos = done = next_slow = 0
        for _ in range(n):
            while True:
                product = int(longs[pos]) * n_centers
                pos += 1
                if product & _U64 <= zone:
                    break
            chosen.append(product >> 64)
            missing = dim
            while missing:
                while slow[next_slow] < pos:
                    next_slow += 1
                run = min(missing, slow[next_slow] - pos)
                starts.append(pos)
                lengths.append(run)
                missing, pos, done = missing - run, pos + run, done + run
                if not missing:
                    break
                at, long, value = pos, int(longs[pos]), float(values[pos])
                if long & 255 == 0:
                    tail, pos = self._ziggurat.tail(value < 0, longs, pos + 1)
                    tails.append((done, tail))
                else:
                    pos += 2
                    if not self._ziggurat.in_wedge(long, value, int(longs[at + 1])):
                        continue
                starts.append(at)
                lengths.append(1)
                missing, done = missing - 1, done + 1
        if pos + 512 > reserve:
            raise AssertionError("more rejections than reserved for")
        self._word += 2 * pos

        length = np.array(lengths)
        first = np.cumsum(length) - length
        normal = values[np.repeat(np.array(starts) - first, length) + np.arange(done)]
        for i, tail in tails:
            normal[i] = tail
        noise = (0.6 * normal).astype(np.float32).reshape(n, dim)
        return self._centroids[chosen] + noise


def points(n: int, dim: int, n_centers: int, seed: int) -> np.ndarray:
    """n points: a random centroid plus N(0, 0.6^2) in every coordinate."""
    stream = Stream(seed)
    words = stream.words(0, n_centers * dim)
    unit = (np.uint32(0x3F800000) | (words >> np.uint32(9))).view(np.float32)
    one, two, four = np.float32(1), np.float32(2), np.float32(4)
    centroids = ((unit - one) * four - two).reshape(n_centers, dim)
    source = _Points(stream, n_centers * dim, centroids)
    out = np.empty((n, dim), dtype=np.float32)
    for begin in range(0, n, _POINTS_PER_BLOCK):
        end = min(begin + _POINTS_PER_BLOCK, n)
        out[begin:end] = source.take(end - begin)
    return out
