"""The state of a segmenter in the middle of a clip, on disk, so that an interrupted clip goes on exactly.

What a method remembers is an object of its own classes. It is pickled, with the network's parts left out by
name and tensors kept in a safetensors file; it is read back by a reader that makes objects of
`vosrepro.methods` and plain containers only, so that a state folder cannot run anything.
"""

from __future__ import annotations

import io
import logging
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vosrepro.base.errors import CheckpointError
from vosrepro.base.files import atomic

if TYPE_CHECKING:
    from torch import nn

    from vosrepro.base.types import Segmenter

log = logging.getLogger(__name__)

_OBJECTS, _TENSORS = "objects.pickle", "tensors.safetensors"
_PLAIN = {
    "builtins": {"set", "frozenset", "slice", "range", "bytearray", "object", "complex"},
    "collections": {"OrderedDict", "defaultdict", "deque"},
    "copyreg": {"_reconstructor", "__newobj__"},
    "functools": {"partial"},
    "torch": {"device", "Size", "float32", "float64", "float16", "bfloat16", "uint8", "int64", "bool"},
}


def save_segmenter(segmenter: Segmenter, model: nn.Module | None, folder: Path) -> bool:
    """Write the state; whether the method's objects can be written at all."""
    from safetensors.torch import save_file

    buffer = io.BytesIO()
    pickler = _Pickler(buffer, model)
    try:
        pickler.dump(segmenter)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        log.info("this method cannot be interrupted and continued (%s)", error)
        return False
    with atomic(folder / _TENSORS) as temporary:
        save_file({str(i): t for i, t in enumerate(pickler.tensors)}, temporary)
    with atomic(folder / _OBJECTS) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return True


def load_segmenter(model: nn.Module | None, folder: Path) -> Segmenter:
    """Read a state of `save_segmenter` with the same network.

    Raises:
        CheckpointError: if it is damaged or holds other objects.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(folder / _TENSORS)
        with (folder / _OBJECTS).open("rb") as file:
            return _Unpickler(file, model, tensors).load()
    except (
        OSError,
        SafetensorError,
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        AttributeError,
        TypeError,
        ImportError,
        IndexError,
        ValueError,
    ) as error:
        raise CheckpointError(f"the state {folder} cannot be read ({error})") from error


class _Pickler(pickle.Pickler):
    """Leaves out modules and parameters of the network, and sets tensors aside."""

    def __init__(self, file: io.BytesIO, model: nn.Module | None) -> None:
        super().__init__(file, protocol=4)
        self.tensors: list[torch.Tensor] = []
        self._places: dict[int, int] = {}
        self._modules = {} if model is None else {id(m): n for n, m in model.named_modules()}
        self._parameters: dict[int, str] = {}
        if model is not None:
            named = [*model.named_parameters(), *model.named_buffers()]
            self._parameters = {id(tensor): name for name, tensor in named}

    def persistent_id(self, obj: Any) -> tuple[str, Any] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        if id(obj) in self._modules and isinstance(obj, torch.nn.Module):
            return "module", self._modules[id(obj)]
        if not isinstance(obj, torch.Tensor):
            return None
        if id(obj) in self._parameters:
            return "parameter", self._parameters[id(obj)]
        if id(obj) not in self._places:
            self._places[id(obj)] = len(self.tensors)
            self.tensors.append(obj.detach().cpu().contiguous().clone())
        return "tensor", (self._places[id(obj)], str(obj.device))


class _Unpickler(pickle.Unpickler):
    """Makes nothing but objects of methods and plain containers."""

    def __init__(self, file: Any, model: nn.Module | None, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__(file)
        self._model, self._tensors = model, tensors

    def persistent_load(self, pid: tuple[str, Any]) -> Any:
        kind, name = pid
        if kind == "tensor":
            return self._tensors[str(name[0])].to(name[1])
        assert self._model is not None
        if kind == "module":
            return self._model.get_submodule(name)
        return dict([*self._model.named_parameters(), *self._model.named_buffers()])[name]

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("vosrepro.methods.") or name in _PLAIN.get(module, ()):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not part of a segmenter's state")
