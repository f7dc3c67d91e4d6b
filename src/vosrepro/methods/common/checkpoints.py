"""Checkpoints of other people: read without running what is inside of them, and checked key by key.

A torch file is a pickle, and a pickle is a program. torch's own restricted reader knows tensors and plain
containers only; files of research code often also hold objects of their own classes (loss meters, option
lists). Each such name is found by looking at the file's opcodes, without interpreting them, and then
stands for an inert class, so that the restricted reader can go on and the tensors come out.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vosrepro.base.errors import CheckpointError

_SHOWN = 5
_COUNTER = "num_batches_tracked"
_ORDERED = "collections.OrderedDict"
_LEGACY_PICKLES = 4  # magic number, protocol version, system facts, the object
_STRINGS = {
    "SHORT_BINUNICODE",
    "BINUNICODE",
    "UNICODE",
    "BINUNICODE8",
    "SHORT_BINSTRING",
    "BINSTRING",
}


class Checkpoint(NamedTuple):
    """A file as somebody released it.

    Attributes:
        content: what it holds.
        foreign: names of the classes that were replaced by inert ones.
    """

    content: Any
    foreign: tuple[str, ...]


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint that may hold objects of unknown classes.

    Raises:
        CheckpointError: if the file is missing, is not a torch file, or cannot be read safely.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return Checkpoint(_safe(path), ())
    try:
        names = sorted(_globals(path))
        foreign = [n for n in names if not n.startswith("torch.") and n != _ORDERED]
        replaced = [(_stand_in(name), name) for name in foreign]
        with torch.serialization.safe_globals(list(replaced)):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except Exception as error:
        reason = " ".join(str(error).rpartition("WeightsUnpickler error:")[2].split())[:160]
        raise CheckpointError(
            f"{path} cannot be read as a torch checkpoint ({reason}): download it again; a file of a few "
            "kilobytes is usually a web page"
        ) from error
    return Checkpoint(content, tuple(name for _, name in replaced))


def _safe(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as a safetensors file ({error}): download it again") from error


class _Inert:
    """Takes the place of an object whose class we do not have; remembers nothing, does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def _plain_dict(*_: Any) -> dict[Any, Any]:
    """Takes the place of `defaultdict`, whose items torch's reader refuses to set."""
    return {}


def _stand_in(name: str) -> Callable[..., Any]:
    if name == "collections.defaultdict":
        return _plain_dict
    return type(name.rpartition(".")[2], (_Inert,), {})


def _globals(path: Path) -> set[str]:
    """Names of everything importable that the file's pickles refer to; nothing is interpreted."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            inner = [n for n in archive.namelist() if n.endswith("data.pkl")]
            return set().union(*(_names(archive.read(n)) for n in inner))
    found: set[str] = set()
    with path.open("rb") as file:
        for _ in range(_LEGACY_PICKLES):
            found |= _names(file)
    return found


def _names(stream: Any) -> set[str]:
    found: set[str] = set()
    strings: list[str] = []
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in _STRINGS:
            strings.append(str(argument))
        elif opcode.name == "GLOBAL":
            found.add(str(argument).replace(" ", "."))
        elif opcode.name == "STACK_GLOBAL" and len(strings) > 1:
            found.add(f"{strings[-2]}.{strings[-1]}")
    return found


#: Entries under which trainers keep a network's state, and what wrappers of networks put before its keys.
_WRAPPINGS = ("state_dict", "model_state_dict", "model", "network", "net", "module")
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")


def unwrapped(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state of a network in what a trainer saved: DataParallel, torch.compile, Lightning and others.

    Wrappings are undone as long as there is no tensor beside them, prefixes as long as all keys share one. What is
    no known wrapping is left as it is, for the layout of the method to judge.
    """
    for name in _WRAPPINGS:
        inner = content.get(name)
        if isinstance(inner, Mapping) and not any(isinstance(v, torch.Tensor) for v in content.values()):
            return unwrapped(inner)
    for prefix in _PREFIXES:
        if content and all(str(key).startswith(prefix) for key in content):
            return unwrapped(without_prefix(content, prefix))
    return content


def full_precision(value: Any) -> Any:
    """The same with float32 in place of half precision."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    if isinstance(value, Mapping):
        return {key: full_precision(inner) for key, inner in value.items()}
    return value


def without_prefix(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Drop a prefix that all keys share; keys are unchanged if one lacks it."""
    if state and all(key.startswith(prefix) for key in state):
        return {key.removeprefix(prefix): value for key, value in state.items()}
    return dict(state)


def checked(state: Mapping[str, Any], expected: Mapping[str, torch.Tensor], *, what: str) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, in the order of `expected`.

    Args:
        state: the checkpoint.
        expected: state dict of the network (its tensors may be on the meta device).
        what: name of the layout, for errors.

    Raises:
        CheckpointError: if a key is missing or unknown (BatchNorm counters may be missing), a value is
            not a tensor, or a shape differs; names the first five of each and their number.
    """
    problems = layout_problems(state, expected)
    if problems:
        raise CheckpointError(
            f"the checkpoint does not have the layout of {what} ({len(expected)} keys): "
            f"{'; '.join(problems)}; give the file that upstream released, unchanged"
        )
    return {key: state[key] if key in state else torch.zeros((), dtype=torch.int64) for key in expected}


def layout_problems(state: Mapping[str, Any], expected: Mapping[str, torch.Tensor]) -> list[str]:
    """How a state dict differs from the expected one; BatchNorm counters may be missing."""
    missing = [k for k in expected if k not in state and not k.endswith(_COUNTER)]
    unknown = [k for k in state if k not in expected]
    misshapen = [
        f"{key}: {_shape(state[key])} instead of {_shape(tensor)}"
        for key, tensor in expected.items()
        if key in state and _shape(state[key]) != _shape(tensor)
    ]
    problems = []
    for name, keys in (("missing", missing), ("unknown", unknown), ("of wrong shape", misshapen)):
        if keys:
            more = ", ..." if len(keys) > _SHOWN else ""
            problems.append(f"{len(keys)} keys are {name} ({', '.join(keys[:_SHOWN])}{more})")
    return problems


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, torch.Tensor) else type(value).__name__
