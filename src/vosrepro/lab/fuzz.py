"""Feed damaged and odd PNGs to our reader and to Pillow: the same labels, or a clean refusal.

  python -m vosrepro.lab.fuzz --files 100000 --seed 0

Files of all color types, depths, filters and interlacing are made, then mutated: bits flipped, bytes cut,
inserted or repeated, chunks dropped, doubled or swapped, header fields and image data changed with
checksums put right again. It fails if our reader returns labels that Pillow does not, returns labels for
a file that Pillow refuses, or raises anything but its own refusal.
"""

from __future__ import annotations

import argparse
import io
import struct
import sys
import warnings
import zlib
from collections import Counter

import numpy as np

from vosrepro.scoring.counting.png import Malformed, decode

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)


def chunk(kind: bytes, body: bytes) -> bytes:
    """One PNG chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def encode(
    samples: np.ndarray,
    *,
    depth: int = 8,
    color: int = 3,
    filters: tuple[int, ...] = (0,),
    interlaced: bool = False,
    pieces: int = 1,
    level: int = 6,
) -> bytes:
    """Encode any kind of PNG.

    Args:
        samples: integers (H, W, channels) or (H, W), below 2 ** depth.
        depth: bits per sample.
        color: PNG color type: 0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGBA.
        filters: row filters, used in turn.
        interlaced: whether to use Adam7.
        pieces: number of IDAT chunks.
        level: of compression.
    """
    samples = samples.reshape(*samples.shape[:2], -1)
    height, width, channels = samples.shape
    if channels != _CHANNELS[color]:
        raise ValueError(f"color type {color} has {_CHANNELS[color]} channels, not {channels}")
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = b"".join(_filtered(part, depth, filters) for y, x, dy, dx in passes if (part := samples[y::dy, x::dx]).size)
    stream = zlib.compress(rows, level)
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(interlaced))
    palette = chunk(b"PLTE", bytes(range(256)) * 3) if color == 3 else b""
    if color == 3 and depth < 8:
        palette = chunk(b"PLTE", bytes(3 << depth))
    step = max(1, -(-len(stream) // pieces))
    data = b"".join(chunk(b"IDAT", stream[i : i + step]) for i in range(0, len(stream), step))
    return _SIGNATURE + chunk(b"IHDR", header) + palette + data + chunk(b"IEND", b"")


def _filtered(samples: np.ndarray, depth: int, filters: tuple[int, ...]) -> bytes:
    height, _, channels = samples.shape
    flat = samples.reshape(height, -1)
    if depth == 16:
        octets = flat.astype(">u2").view(np.uint8)
    elif depth == 8:
        octets = flat.astype(np.uint8)
    else:
        shifts = np.arange(depth - 1, -1, -1)
        bits = (flat[:, :, None] >> shifts) & 1
        octets = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    back = max(1, channels * depth // 8)
    out = []
    above = np.zeros(octets.shape[1], np.uint8)
    for y, row in enumerate(octets):
        kind = filters[y % len(filters)]
        left = np.concatenate([np.zeros(back, np.uint8), row])[: len(row)]
        corner = np.concatenate([np.zeros(back, np.uint8), above])[: len(row)]
        out.append(bytes([kind]) + (row - _predicted(kind, left, above, corner)).tobytes())
        above = row
    return b"".join(out)


def _predicted(kind: int, left: np.ndarray, above: np.ndarray, corner: np.ndarray) -> np.ndarray:
    a, b, c = (x.astype(np.int32) for x in (left, above, corner))
    if kind == 1:
        return left
    if kind == 2:
        return above
    if kind == 3:
        return ((a + b) // 2).astype(np.uint8)
    if kind == 4:
        p = a + b - c
        distances = np.stack([abs(p - a), abs(p - b), abs(p - c)])
        return np.choose(distances.argmin(axis=0), [a, b, c]).astype(np.uint8)
    return np.zeros_like(left)


def random_png(generator: np.random.Generator) -> bytes:
    """A valid PNG of random kind, with blob-like labels."""
    color = int(generator.choice([3, 3, 3, 3, 0, 0, 0, 2, 4, 6]))
    depth = int(generator.choice(_DEPTHS[color]))
    height, width = (int(n) for n in generator.integers(1, 41, 2))
    samples = np.zeros((height, width, _CHANNELS[color]), np.int64)
    top = int(generator.choice([2, min(8, 1 << depth), 1 << depth]))
    for _ in range(int(generator.integers(1, 5))):
        y, x = int(generator.integers(0, height)), int(generator.integers(0, width))
        h, w = (int(n) for n in generator.integers(1, 20, 2))
        samples[y : y + h, x : x + w] = generator.integers(0, top, samples.shape[2])
    filters = ((0,), (0,), (1,), (2,), (0, 1, 2, 3, 4))[int(generator.integers(0, 5))]
    return encode(
        samples,
        depth=depth,
        color=color,
        filters=filters,
        interlaced=bool(generator.random() < 0.15),
        pieces=int(generator.integers(1, 4)),
        level=int(generator.integers(0, 10)),
    )


def mutate(data: bytes, generator: np.random.Generator) -> bytes:
    """One random change; half of the kinds keep all checksums right."""
    kind = int(generator.integers(0, 9))
    at = int(generator.integers(0, len(data)))
    n = int(generator.integers(1, 9))
    noise = generator.integers(0, 256, n, np.uint8).tobytes()
    if kind == 0:
        return data[:at] + bytes([data[at] ^ (1 << int(generator.integers(0, 8)))]) + data[at + 1 :]
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + noise + data[at + n :]
    if kind == 3:
        return data[:at] + noise + data[at:]
    if kind == 4:
        return data[:at] + data[max(0, at - n) :]
    parts = _split(data)
    which = int(generator.integers(0, len(parts)))
    if kind == 5:
        other = int(generator.integers(0, len(parts)))
        parts[which], parts[other] = parts[other], parts[which]
    elif kind == 6:
        parts[which : which + 1] = [parts[which]] * int(generator.choice([0, 2]))
    else:
        name, body = parts[which]
        if kind == 8 and name == b"IDAT":
            body = _reinflated(body, generator)
        elif body:
            spot = int(generator.integers(0, len(body)))
            small = int(generator.integers(0, 17))
            value = small if generator.random() < 0.6 else noise[0]
            body = body[:spot] + bytes([value]) + body[spot + 1 :]
        parts[which] = (name, body)
    return _SIGNATURE + b"".join(chunk(name, body) for name, body in parts)


def _split(data: bytes) -> list[tuple[bytes, bytes]]:
    parts = []
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        parts.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return parts


def _reinflated(body: bytes, generator: np.random.Generator) -> bytes:
    """The same stream with other pixels, more, or fewer of them."""
    try:
        rows = bytearray(zlib.decompress(body))
    except zlib.error:  # one of several IDAT chunks
        return body[::-1]
    for _ in range(int(generator.integers(0, 4))):
        rows[int(generator.integers(0, len(rows)))] = int(generator.integers(0, 256))
    cut = int(generator.integers(-3, 4))
    rows = rows[:cut] if cut < 0 else rows + bytes(cut)
    return zlib.compress(bytes(rows), int(generator.integers(0, 10)))


def pillow_labels(data: bytes) -> np.ndarray | None:
    """Labels as Pillow reads them; None if it refuses or the file is no label map."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                return np.asarray(image, np.uint8) if image.mode in ("P", "L", "1") else None
    except Exception:  # whatever a decoder raises is a refusal
        return None


def compare_decoders(data: bytes) -> str:
    """One file.

    Returns:
        "same", "refused by both", "refused by us", or a mistake: "different", "accepted by us alone" or
        "crash: ...".
    """
    expected = pillow_labels(data)
    try:
        found = decode(data).array()
    except Malformed:
        return "refused by both" if expected is None else "refused by us"
    except Exception as error:  # this is what is being looked for
        return f"crash: {type(error).__name__}"
    if expected is None:
        return "accepted by us alone"
    return "same" if np.array_equal(found, expected) else "different"


FINE = ("same", "refused by both", "refused by us")


def fuzz(files: int, seed: int) -> tuple[Counter[str], list[bytes]]:
    """Compare many mutated files.

    Returns:
        How often each outcome of `compare_decoders` came, and the files that came out wrong (at most 20).
    """
    generator = np.random.default_rng(seed)
    outcomes: Counter[str] = Counter()
    wrong: list[bytes] = []
    while outcomes.total() < files:
        original = random_png(generator)
        for changes in (0, 1, 1, 1, 1, 1, 1, 2, 2, 3):
            data = original
            for _ in range(changes):
                data = mutate(data, generator) if len(data) > 20 else data
            outcome = compare_decoders(data)
            outcomes[outcome] += 1
            if outcome not in FINE and len(wrong) < 20:
                wrong.append(data)
            if outcomes.total() >= files:
                break
    return outcomes, wrong


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vosrepro.lab.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--files", type=int, default=10_000, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    args = parser.parse_args()
    outcomes, wrong = fuzz(args.files, args.seed)
    for outcome, count in outcomes.most_common():
        print(f"{count:9d}  {outcome}")
    for data in wrong:
        print(f"wrong: {compare_decoders(data)}: {data.hex()[:2000]}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
