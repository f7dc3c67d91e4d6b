"""PML's search and solver beside the forms they replace, in one process.

Rounds go through all ways in turn and the best round of each counts, in CPU seconds of this process: with one
thread that is the wall time of an idle machine, and it does not suffer from what else runs.

  search   nearest neighbours and vote of one 480p frame: 61 x 107 cells, 128 dimensions, 6527-cell pool, K = 5.
           Beside it: all distances and a full sort, as the seed does; faiss IndexFlat if it is installed.
  solver   bilateral solver on 480 x 854. Beside it: the same equations in scipy.sparse.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from vosrepro.base.errors import VosreproError
from vosrepro.base.machine import peak_rss_mb
from vosrepro.lab.timing import fastest, show
from vosrepro.methods.pml.bilateral import BilateralGrid, solve
from vosrepro.methods.pml.search import nearest_cells
from vosrepro.methods.pml.votes import hard_vote

_GRID, _FRAME, _DIM, _K = (61, 107), (480, 854), 128, 5
_EQUAL = 1e-6  # of the maximum


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to measure."""
    parser.add_argument("part", nargs="?", choices=("all", "search", "solver"), default="all")
    parser.add_argument("--image", help="guide of the solver, 480 x 854 (default: a generated one)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds; the best counts (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Print one table per part."""
    torch.set_num_threads(args.threads)
    if args.part in ("all", "search"):
        show("search of one 480p frame", search_table(repeat=args.repeat))
    if args.part in ("all", "solver"):
        show("bilateral solver, 480 x 854", bilateral_table(args.image, repeat=args.repeat))
    return 0


def search_table(*, repeat: int = 3) -> list[dict[str, Any]]:
    """Seconds, speed relative to the full sort, and agreement of every way to search.

    Raises:
        VosreproError: if ours finds other labels than the full sort.
    """
    generator = torch.Generator().manual_seed(0)
    pool, query = _embedding(generator), _embedding(generator)
    labels = (torch.rand(len(pool), generator=generator) > 0.7).long()

    def ours() -> torch.Tensor:
        return hard_vote(labels[nearest_cells(query, pool, _K).index], 2)[0]

    def full_sort() -> torch.Tensor:
        squares = query.square().sum(1)[:, None] + pool.square().sum(1)[None]
        order = (squares - 2 * query @ pool.T).argsort(1)[:, :_K]
        return (labels[order].sum(1) > _K // 2).long()

    before = peak_rss_mb()
    ours()
    memory = round(peak_rss_mb() - before, 1)
    ways: dict[str, Callable[[], Any]] = {
        "ours": ours,
        "product and torch.topk": lambda: _topk(query, pool, labels),
        "full sort": full_sort,
    }
    search = _faiss(query, pool, labels)
    if search is not None:
        ways["faiss IndexFlatL2"] = search
    rows = fastest(ways, repeat, torch.device("cpu"))
    rows[0]["memory_mb"] = memory
    table = _compared(rows, base="full sort")
    if table[0]["equal_labels"] < 1:
        raise VosreproError(f"our search labels {1 - table[0]['equal_labels']:.2%} of the cells otherwise")
    return table


def bilateral_table(image: str | None = None, *, repeat: int = 3) -> list[dict[str, Any]]:
    """Seconds, speed relative to SciPy, and relative difference of both solvers.

    Raises:
        VosreproError: if ours in float64 is not equal.
    """
    guide = _guide() if image is None else _read(image)
    height, width = guide.shape[:2]
    y, x = np.mgrid[:height, :width]
    target = (np.hypot(y - height / 2, (x - width / 2) / 1.6) < height / 4).astype(np.float64)

    def ours() -> np.ndarray:
        grid = BilateralGrid(torch.from_numpy(guide))
        return solve(grid, torch.from_numpy(target)[None], 1.0).values[0].numpy()

    def single() -> np.ndarray:
        grid = BilateralGrid(torch.from_numpy(guide), dtype=torch.float32)
        return solve(grid, torch.from_numpy(target)[None], 1.0).values[0].numpy()

    def reference() -> np.ndarray:
        return scipy_solver(guide, target)

    ways = {"ours, float64": ours, "ours, float32": single, "scipy.sparse": reference}
    rows = fastest(ways, repeat, torch.device("cpu"))
    expected = rows[-1]["result"]
    for row in rows:
        row["relative_difference"] = float(np.abs(row["result"] - expected).max() / expected.max())
    if rows[0]["relative_difference"] > _EQUAL:
        raise VosreproError(f"our solver differs from SciPy's by {rows[0]['relative_difference']:.1e} of the maximum")
    vertices = BilateralGrid(torch.from_numpy(guide)).vertices
    return [{**row, "vertices": vertices} for row in _compared(rows, base="scipy.sparse")]


def scipy_solver(
    guide: np.ndarray, target: np.ndarray, *, smoothness: float = 128.0, iterations: int = 25
) -> np.ndarray:
    """The equations of Barron & Poole with explicit sparse matrices and confidence 1; binning is exact.

    Args:
        guide: uint8 (H, W, 3) RGB.
        target: float64 (H, W).
        smoothness: lambda.
        iterations: of conjugate gradients at most.
    """
    from scipy import sparse
    from scipy.sparse.linalg import cg

    height, width = target.shape
    units = np.array(
        [
            [299000, 587000, 114000],
            [-168736, -331264, 500000],
            [500000, -418688, -81312],
        ],
        dtype=np.float64,
    )
    yuv = np.tensordot(guide, units, ([2], [1])) + np.array([0, 128e6, 128e6])
    rows, columns = np.mgrid[:height, :width]
    bins = np.dstack([columns // 8, rows // 8, yuv // 4e6]).reshape(-1, 5).T.astype(np.int64)
    strides = 256 ** np.arange(5, dtype=np.int64)
    known, vertex = np.unique(strides @ bins, return_inverse=True)
    count = len(known)
    splat = sparse.csr_matrix(
        (np.ones(vertex.size), (vertex.ravel(), np.arange(vertex.size))), shape=(count, vertex.size)
    )
    blur = sparse.identity(count, format="csr") * 10
    for stride in strides:
        place = np.minimum(np.searchsorted(known, known + stride), count - 1)
        first = np.flatnonzero(known[place] == known + stride)
        link = sparse.csr_matrix((np.ones(first.size), (first, place[first])), shape=(count, count))
        blur = blur + link + link.T
    mass, scale = splat @ np.ones(vertex.size), np.ones(count)
    for _ in range(10):
        scale = np.sqrt(scale * mass / (blur @ scale))
    inner = sparse.diags(scale) @ blur @ sparse.diags(scale)
    trust = splat @ np.ones(vertex.size)
    system = smoothness * (sparse.diags(scale * (blur @ scale)) - inner) + sparse.diags(trust)
    right = splat @ target.ravel()
    jacobi = sparse.diags(1 / np.maximum(system.diagonal(), 1e-5))
    values, _ = cg(system.tocsr(), right, x0=right / trust, rtol=1e-5, atol=0, maxiter=iterations, M=jacobi)
    return (splat.T @ values).reshape(height, width)


def _topk(query: torch.Tensor, pool: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    parts = [(part @ pool.T).topk(_K, dim=1).indices for part in query.split(1024)]
    return (labels[torch.cat(parts)].sum(1) > _K // 2).long()


def _faiss(query: torch.Tensor, pool: torch.Tensor, labels: torch.Tensor) -> Callable[[], torch.Tensor] | None:
    try:
        import faiss  # type: ignore[import-not-found]  # optional, not a dependency
    except ImportError:
        return None
    faiss.omp_set_num_threads(torch.get_num_threads())

    def search() -> torch.Tensor:
        index = faiss.IndexFlatL2(pool.shape[1])
        index.add(pool.numpy())
        found = torch.from_numpy(index.search(query.numpy(), _K)[1])
        return (labels[found].sum(1) > _K // 2).long()

    return search


def _embedding(generator: torch.Generator) -> torch.Tensor:
    """Unit vectors that vary smoothly over the grid, with noise."""
    coarse = torch.randn(1, _DIM, 8, 14, generator=generator)
    smooth = F.interpolate(coarse, _GRID, mode="bicubic")
    noisy = smooth + 0.3 * torch.randn(1, _DIM, *_GRID, generator=generator)
    return F.normalize(noisy, dim=1)[0].flatten(1).T.contiguous()


def _guide() -> np.ndarray:
    """uint8 (H, W, 3): structure at several scales and a little noise; about 120 000 vertices."""
    generator = torch.Generator().manual_seed(0)
    image = torch.full((1, 3, *_FRAME), 120.0)
    for cells, gain in ((4, 45.0), (16, 25.0), (64, 9.0)):
        grey = torch.randn(1, 1, cells, 2 * cells, generator=generator)
        color = grey + 0.35 * torch.randn(1, 3, cells, 2 * cells, generator=generator)
        image = image + gain * F.interpolate(color, _FRAME, mode="bicubic")
    image = image + 1.5 * torch.randn(1, 1, *_FRAME, generator=generator)
    return image[0].permute(1, 2, 0).clamp(0, 255).to(torch.uint8).numpy().copy()


def _read(path: str) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).copy()


def _compared(rows: list[dict[str, Any]], *, base: str) -> list[dict[str, Any]]:
    """Rows with the speed relative to the base, and the agreement of labels, without the results."""
    reference = next(row for row in rows if row["way"] == base)
    table = []
    for row in rows:
        extra = {k: v for k, v in row.items() if k not in ("way", "seconds", "result")}
        if isinstance(row["result"], torch.Tensor):
            extra["equal_labels"] = float((row["result"] == reference["result"]).double().mean())
        speed = reference["seconds"] / row["seconds"]
        table.append({"way": row["way"], "seconds": row["seconds"], "times_faster": speed, **extra})
    return table


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(_parser)
    sys.exit(run(_parser.parse_args()))
