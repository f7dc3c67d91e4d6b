"""Reading a space-time memory: full softmax, top-k and kernelized, for any number of objects.

Shapes: K objects (or any batch), N memory cells, Q = h * w query cells, C_k and C_v channels. Keys are
stored as (K, N, C_k) *already multiplied by 1/sqrt(C_k)*, values as (K, N, C_v): rows are contiguous,
so that a growing memory is appended to in place and top-k gathers whole rows.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from vosrepro.methods.stm.kernels import kernel_bias

#: Similarities that a device holds at once, 256 MB on a CPU: frames of many cells have gigabytes of them.
_LOGITS = {"cpu": 2**26, "cuda": 2**28}


def read(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    *,
    top_k: int | None = None,
    kernel_sigma: float | None = None,
    grid: tuple[int, int] | None = None,
    valid: torch.Tensor | None = None,
) -> torch.Tensor:
    """For each query cell, the average of the values, weighted by the similarity of the keys.

    Args:
        query: (1 or K, Q, C_k); a first dimension of 1 is shared by all objects.
        keys: (K, N, C_k), scaled by 1/sqrt(C_k).
        values: (K, N, C_v).
        top_k: keep only the k most similar memory cells of each query cell (all of them if N < k).
        kernel_sigma: standard deviation, in cells, of the Gaussian around each memory cell's best query
            cell. Needs `grid`.
        grid: (h, w) of the query, with h * w = Q.
        valid: bool (K, N): memory cells that the object may read; all if None. Every object needs at
            least one.

    Returns:
        (K, Q, C_v) of the values' dtype. Logits and softmax are float32.

    Source: Oh et al., ICCV 2019, Sec. 3.2; Cheng et al., CVPR 2021, Sec. 3.2 (top-k); Seong et al.,
        ECCV 2020, Sec. 3.2 (kernel), as hkchengrex/Mask-Propagation: model/eval_network.py.
    Deviation: none in exact arithmetic; the kernel is an additive bias of the logits, and top-k
        gathers instead of scattering into a dense matrix.
    """
    everything = top_k is None or top_k >= keys.shape[1]
    if kernel_sigma is None and everything and _on_gpu(query):
        return _read_all(query, keys, values, valid)
    best = None
    if kernel_sigma is not None:
        if grid is None:
            raise ValueError("the kernelized read needs the grid of the query cells")
        best = _best_queries(query, keys)
    rows = _rows(query, keys)
    found = []
    for begin in range(0, query.shape[1], rows):  # the same rows, a few at a time
        part = query[:, begin : begin + rows]
        logits = _similarity(part, keys)
        if best is not None and grid is not None and kernel_sigma is not None:
            logits = logits + kernel_bias(best, grid, sigma=kernel_sigma, begin=begin, rows=part.shape[1])
        if valid is not None:
            logits = logits.masked_fill(~valid[:, None], -math.inf)
        if everything:
            found.append(torch.matmul(torch.softmax(logits, dim=2).to(values.dtype), values))
        else:
            assert top_k is not None
            found.append(_read_top(logits, values, top_k))
    return found[0] if len(found) == 1 else torch.cat(found, dim=1)


def _on_gpu(x: torch.Tensor) -> bool:
    """Whether the forms that are fast on a GPU are to be used."""
    return x.is_cuda


def _rows(query: torch.Tensor, keys: torch.Tensor) -> int:
    """Query cells whose similarities to all memory cells are held at once."""
    return max(1, _LOGITS.get(query.device.type, _LOGITS["cuda"]) // (keys.shape[0] * keys.shape[1]))


def _best_queries(query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """int64 (K, N): the query cell that each memory cell resembles most, the first of equals."""
    rows = _rows(query, keys)
    highest = best = None
    for begin in range(0, query.shape[1], rows):
        values, cells = _similarity(query[:, begin : begin + rows], keys).max(dim=1)
        if highest is None or best is None:
            highest, best = values, cells
        else:
            best = torch.where(values > highest, cells + begin, best)
            highest = torch.maximum(values, highest)
    assert best is not None
    return best


def _read_all(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, valid: torch.Tensor | None
) -> torch.Tensor:
    """The full read without ever building the (Q, N) weights."""
    mask = None if valid is None else valid[:, None, None]
    query = query.expand(keys.shape[0], -1, -1)
    return F.scaled_dot_product_attention(query[:, None], keys[:, None], values[:, None], attn_mask=mask, scale=1.0)[
        :, 0
    ]


def _similarity(query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """float32 (K, Q, N) products; half precision is rounded on input only."""
    turned = keys.transpose(1, 2)
    if query.dtype == torch.float32:
        return torch.matmul(query, turned)
    trained = torch.is_grad_enabled() and (query.requires_grad or keys.requires_grad)
    if _on_gpu(query) and not trained:  # a product with another type of result has no derivative
        query = query.expand(keys.shape[0], -1, -1)
        return torch.bmm(query, turned, out_dtype=torch.float32)
    return torch.matmul(query.float(), turned.float())


def _read_top(logits: torch.Tensor, values: torch.Tensor, top_k: int) -> torch.Tensor:
    best, cells = torch.topk(logits, top_k, dim=2, sorted=False)  # (K, Q, k)
    weights = torch.softmax(best, dim=2).to(values.dtype)
    objects, memory, channels = values.shape
    if values.stride()[1:] != (channels, 1) or values.stride(0) % channels:
        values = values.contiguous()
    pitch = values.stride(0) // channels  # the memory is a prefix of a larger buffer
    offset = torch.arange(objects, device=cells.device)[:, None, None] * pitch
    rows = (cells + offset).flatten(0, 1)  # (K * Q, k) rows of the flattened values
    table = values.as_strided(((objects - 1) * pitch + memory, channels), (channels, 1))
    # embedding_bag is a fused gather and weighted sum; the (K, Q, k, C_v) rows are never stored.
    read_out = F.embedding_bag(
        rows,
        table,
        per_sample_weights=weights.flatten(0, 1),
        mode="sum",
    )
    return read_out.view(objects, -1, channels)


class MemoryBank:
    """Keys and values of the remembered frames of one video, in buffers that grow by doubling.

    An entry is one remembered frame: `cells` rows per object. Objects that begin late have no rows in
    the entries before theirs; those are masked. The last entry may be temporary: it is overwritten by
    the next one.
    """

    def __init__(self, cells: int, *, max_entries: int | None = None) -> None:
        """Make an empty memory.

        Args:
            cells: rows of one entry, h * w.
            max_entries: None keeps every permanent entry (as published). Otherwise at most this many
                are kept: the oldest that no object begins with is dropped when one more comes, so that
                memory and time are bounded on long videos.
        """
        if max_entries is not None and max_entries < 2:
            raise ValueError("a bounded memory needs at least two entries")
        self._cells = cells
        self._max_entries = max_entries
        self._keys: torch.Tensor | None = None  # (K, capacity, C_k)
        self._values: torch.Tensor | None = None
        self._first: list[int] = []  # per object, index of its first entry
        self._entries = 0
        self._temporary = False

    @property
    def entries(self) -> int:
        """Remembered frames, with the temporary one."""
        return self._entries

    def add(self, key: torch.Tensor, value: torch.Tensor, *, permanent: bool) -> None:
        """Remember one frame of all present objects.

        Args:
            key: (K, cells, C_k), scaled. K may exceed the number of objects so far: the others begin here.
            value: (K, cells, C_v).
            permanent: whether the entry stays after the next call.
        """
        if self._temporary:
            self._entries -= 1
        self._make_room(key, value)
        assert self._keys is not None
        assert self._values is not None
        begin = self._entries * self._cells
        self._keys[:, begin : begin + self._cells] = key
        self._values[:, begin : begin + self._cells] = value
        self._first += [self._entries] * (key.shape[0] - len(self._first))
        self._entries += 1
        self._temporary = not permanent
        if permanent and self._max_entries is not None and self._entries > self._max_entries:
            self._drop_oldest()

    def read(
        self,
        query: torch.Tensor,
        *,
        grid: tuple[int, int],
        top_k: int | None,
        kernel_sigma: float | None,
    ) -> torch.Tensor:
        """Read for a query (1, Q, C_k): (K, Q, C_v), see `read`."""
        if self._keys is None or self._values is None:
            raise RuntimeError("the memory is empty")
        size = self._entries * self._cells
        return read(
            query,
            self._keys[:, :size],
            self._values[:, :size],
            top_k=top_k,
            kernel_sigma=kernel_sigma,
            grid=grid,
            valid=self._valid(size),
        )

    def _valid(self, size: int) -> torch.Tensor | None:
        if not any(self._first):
            return None
        assert self._keys is not None
        first = torch.tensor(self._first, device=self._keys.device) * self._cells
        return torch.arange(size, device=first.device)[None] >= first[:, None]

    def _make_room(self, key: torch.Tensor, value: torch.Tensor) -> None:
        objects, need = key.shape[0], (self._entries + 1) * self._cells
        have_objects = 0 if self._keys is None else self._keys.shape[0]
        capacity = 0 if self._keys is None else self._keys.shape[1]
        if objects <= have_objects and need <= capacity:
            return
        if need > capacity:
            capacity = max(4 * self._cells, 2 * capacity, need)
        used = self._entries * self._cells
        self._keys = _grown(self._keys, key, objects, capacity, used)
        self._values = _grown(self._values, value, objects, capacity, used)

    def _drop_oldest(self) -> None:
        assert self._keys is not None
        assert self._values is not None
        firsts = set(self._first)
        drop = next((e for e in range(self._entries - 1) if e not in firsts), None)
        if drop is None:  # more first frames than the bound: keep them all
            return
        begin, end = drop * self._cells, self._entries * self._cells
        for buffer in (self._keys, self._values):
            buffer[:, begin : end - self._cells] = buffer[:, begin + self._cells : end].clone()
        self._entries -= 1
        self._first = [f - 1 if f > drop else f for f in self._first]


def _grown(old: torch.Tensor | None, like: torch.Tensor, objects: int, capacity: int, used: int) -> torch.Tensor:
    new = like.new_zeros(objects, capacity, like.shape[2])
    if old is not None:
        new[: old.shape[0], :used] = old[:, :used]
    return new
