"""Tensors that claim to lie on a GPU, on a machine without one.

Inside `pretend_cuda()` whatever is made for the device "cuda", moved to it or computed from tensors there says
`is_cuda` and `device == cuda:0`, so that code takes the branches it takes on a GPU. The numbers are computed by the
CPU. Refused, as on a GPU, are operations over tensors of both devices and a silent way back (numpy). Inside
`torch.autocast("cuda", ...)` types follow the tables of CUDA's autocast.

What it cannot see: kernels, their rounding, memory, streams, several devices, and whatever happens inside the backward
pass of a custom `autograd.Function`.

Source: the tables in PyTorch's documentation of torch.amp ("CUDA Op-Specific Behavior").
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

CUDA = torch.device("cuda", 0)

_HALF = {
    *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear"),
    *("matmul", "__matmul__", "__rmatmul__", "mm", "mv", "bmm", "addmm", "addmv", "addbmm", "baddbmm", "chain_matmul"),
    *("einsum", "prelu", "scaled_dot_product_attention"),
}
_SINGLE = {
    *(
        "softmax",
        "log_softmax",
        "softmin",
        "softplus",
        "exp",
        "expm1",
        "log",
        "log10",
        "log1p",
        "log2",
        "pow",
        "__pow__",
    ),
    *("__rpow__", "reciprocal", "rsqrt", "acos", "asin", "cosh", "sinh", "tan", "erfinv", "sum", "prod", "cumsum"),
    *("cumprod", "norm", "normalize", "dist", "cdist", "pdist", "renorm", "layer_norm", "group_norm", "l1_loss"),
    *(
        "mse_loss",
        "smooth_l1_loss",
        "nll_loss",
        "kl_div",
        "cross_entropy",
        "cosine_similarity",
        "cosine_embedding_loss",
    ),
    *("binary_cross_entropy_with_logits", "triplet_margin_loss", "hinge_embedding_loss", "multi_margin_loss"),
}
_WIDEST = {
    *("cat", "stack", "addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "vdot", "grid_sample", "index_put"),
    *("scatter_add", "tensordot"),
}
#: Operations that CUDA lets read an index or a source on the host.
_MAY_MIX = {"copy_", "to", "type_as", "__getitem__", "__setitem__", "index_put_", "__get__", "__set__"}


class OnCuda(torch.Tensor):
    """A tensor of the CPU that says that it is not."""

    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Operations outside of `pretend_cuda()`, and inside those that the mode computes."""
        return _compute(func, tuple(args), dict(kwargs or {}))


def on_cuda(tensor: torch.Tensor) -> OnCuda:
    """The same numbers, on the pretended device."""
    if isinstance(tensor, OnCuda):
        return tensor
    with torch._C.DisableTorchFunctionSubclass():
        if tensor.layout is not torch.strided:  # cannot be called anything else; it is taken for being on both devices
            return tensor  # type: ignore[return-value]
        if tensor.grad_fn is None and tensor.requires_grad:
            return torch.Tensor._make_subclass(OnCuda, tensor.detach(), True)
        return tensor.as_subclass(OnCuda)


def on_host(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers, on the CPU."""
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(torch.Tensor) if isinstance(tensor, OnCuda) else tensor


def _bare(x: torch.Tensor) -> torch.Tensor:
    return on_host(x) if isinstance(x, OnCuda) else x


def _tensors(value: Any) -> list[torch.Tensor]:
    """The tensors in lists, tuples and dictionaries, however deep."""
    found: list[torch.Tensor] = []
    _each(lambda x: found.append(x) or x, value)
    return found


def _each(change: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """The same structure with every tensor changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if type(value) in (list, tuple):
        return type(value)(_each(change, x) for x in value)
    if isinstance(value, tuple):  # a named one
        return (
            type(value)(*(_each(change, x) for x in value))
            if hasattr(value, "_fields")
            else type(value)(_each(change, x) for x in value)
        )
    if type(value) is dict:
        return {key: _each(change, x) for key, x in value.items()}
    return value


def move(module: nn.Module) -> nn.Module:
    """What `module.to("cuda")` does: parameters and buffers change their device, in place."""
    moved: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                if id(weight) not in moved:
                    moved[id(weight)] = _parameter(weight.data, weight.requires_grad)
                part._parameters[name] = moved[id(weight)]
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = on_cuda(buffer)
    return module


def _module_to(self: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """`module.to(...)`: torch asks tensors for their device below Python, where they tell the truth."""
    named = [*args, *kwargs.values()]
    if any(isinstance(x, OnCuda) or _names_cuda(x) for x in named):
        move(self)
    types = [x.dtype if isinstance(x, torch.Tensor) else x for x in named]
    dtype = next((x for x in types if isinstance(x, torch.dtype)), None)
    layout = kwargs.get("memory_format")
    return _real_module_to(self, dtype=dtype, memory_format=layout) if dtype or layout else self


_real_module_to = nn.Module.to


def _names_cuda(x: Any) -> bool:
    return isinstance(x, str | torch.device) and torch.device(x).type == "cuda"


def _parameter(data: torch.Tensor, requires_grad: bool) -> nn.Parameter:
    with torch._C.DisableTorchFunctionSubclass():
        made: Any = torch.Tensor._make_subclass(OnCuda, data.detach(), requires_grad)
    made._is_param = True  # what isinstance(..., nn.Parameter) asks for
    return made


# ---------------------------------------------------------------------------------------- one operation


def _compute(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = getattr(func, "__name__", "")
    if name == "__deepcopy__":  # its second argument holds all that was copied before
        return _copied(*args)
    tensors = _tensors((args, kwargs))
    ours = any(isinstance(t, OnCuda) for t in tensors)
    special = _SPECIAL.get(name)
    if special is not None and (ours or name == "pin_memory"):
        return special(*args, **kwargs)
    target, args, kwargs = _target(name, args, kwargs)
    if ours:
        _check_devices(name, args, tensors)
        args, kwargs = _cast(name, args, kwargs)
    with torch._C.DisableTorchFunctionSubclass():
        if isinstance(func, FunctionType) and func.__module__.startswith("torch.") and "functional" in func.__module__:
            args, kwargs = _each(_bare, args), _each(_bare, kwargs)  # written in Python, it would ask for the device
        found = func(*args, **kwargs)
    there = ours if target is None else target == "cuda"
    if name in ("__set__", "__delete__"):
        return found
    change = on_cuda if there else (on_host if target is not None else None)
    return found if change is None else _each(change, found)


def _target(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[str | None, tuple[Any, ...], dict[str, Any]]:
    """The device that an operation names, and its arguments with the CPU in that place."""
    if name == "cuda":
        return "cuda", args[:1], {}
    if name == "cpu":
        return "cpu", args[:1], {}
    target: list[str] = []

    def host(x: Any) -> Any:
        if isinstance(x, torch.device) or (isinstance(x, str) and x.split(":")[0] in ("cuda", "cpu")):
            target.append(torch.device(x).type)
            return torch.device("cpu")
        return x

    if name == "to" and len(args) > 1 and isinstance(args[1], torch.Tensor):
        target.append("cuda" if isinstance(args[1], OnCuda) else "cpu")
    if name == "to":
        args = (args[0], *map(host, args[1:]))
    if name != "device" and "device" in kwargs and kwargs["device"] is not None:
        kwargs = {**kwargs, "device": host(torch.device(kwargs["device"]))}
    return (target[0] if target else None), args, kwargs


def _check_devices(name: str, args: tuple[Any, ...], tensors: list[torch.Tensor]) -> None:
    with torch._C.DisableTorchFunctionSubclass():
        host = [t for t in tensors if not isinstance(t, OnCuda) and t.layout is torch.strided]
        away = [t for t in host if t.dim() > 0 or name in ("cat", "stack")]
    if name in ("__setitem__", "index_put_"):  # indices may lie on the host, values may not
        value = args[2]
        away = [value] if any(value is t for t in away) else []
        if not isinstance(args[0], OnCuda):
            away = [args[0]]
    elif name == "__getitem__":
        away = [] if isinstance(args[0], OnCuda) else [args[0]]
    elif name in _MAY_MIX:
        away = []
    if away:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but {name} found {CUDA} and cpu "
            f"(a tensor of shape {tuple(away[0].shape)})"
        )


# ------------------------------------------------------------------------------------------- autocast

_types: list[torch.dtype | None] = []


class _Autocast(contextlib.ContextDecorator):
    def __init__(self, dtype: torch.dtype | None, enabled: bool) -> None:
        self._type = (dtype or torch.float16) if enabled else None

    def __enter__(self) -> None:
        _types.append(self._type)

    def __exit__(self, *_: object) -> None:
        _types.pop()


def _cast(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments as CUDA's autocast hands them to an operation."""
    half = _types[-1] if _types else None
    if half is None:
        return args, kwargs
    if name == "binary_cross_entropy":
        raise RuntimeError("binary_cross_entropy and BCELoss are unsafe to autocast")
    floats = (torch.float32, half)
    if name in _HALF:
        wanted: torch.dtype | None = half
    elif name in _SINGLE:
        wanted = torch.float32
    elif name in _WIDEST:
        found = {t.dtype for t in _tensors((args, kwargs)) if isinstance(t, OnCuda)}
        wanted = torch.float32 if torch.float32 in found else None
    else:
        wanted = None
    if wanted is None:
        return args, kwargs

    def cast(x: torch.Tensor) -> torch.Tensor:
        if not isinstance(x, OnCuda) or x.dtype not in floats or x.dtype == wanted:
            return x
        with torch._C.DisableTorchFunctionSubclass():
            return x.to(wanted).as_subclass(OnCuda)

    return _each(cast, args), _each(cast, kwargs)


# -------------------------------------------------------------------------- operations with a rule of their own


def _copied(tensor: Any, memo: dict[int, Any]) -> Any:
    if id(tensor) not in memo:
        with torch._C.DisableTorchFunctionSubclass():
            data = tensor.detach().clone()
        parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = _parameter(data, tensor.requires_grad) if parameter else on_cuda(data)
    return memo[id(tensor)]


def _no_numpy(*_: Any, **__: Any) -> Any:
    raise TypeError(
        "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy it to host memory first"
    )


def _pinned(tensor: Any, *_: Any) -> Any:
    if isinstance(tensor, OnCuda):
        raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
    return tensor


def _product(func: Callable[..., Any]) -> Callable[..., Any]:
    """Matrix products whose result may have another type than their factors, which only CUDA offers."""

    def product(*args: Any, **kwargs: Any) -> Any:
        wanted = kwargs.pop("out_dtype", None)
        if wanted is None:
            with torch._C.DisableTorchFunctionSubclass():
                cast, named = _cast(func.__name__, args, kwargs)
                tensors = _tensors((args, kwargs))
                _check_devices(func.__name__, args, tensors)
                return on_cuda(func(*cast, **named))
        if torch.is_grad_enabled() and any(x.requires_grad for x in args):
            raise NotImplementedError(f"the derivative for 'aten::{func.__name__}' with out_dtype is not implemented")
        with torch._C.DisableTorchFunctionSubclass():
            return on_cuda(func(*(x.to(wanted) for x in args), **kwargs))

    return product


def _regions(features: Any, boxes: Any, *others: Any) -> Any:
    """torchvision's roi_align; its rule for autocast is registered below Python, and its CPU form knows no bfloat16."""
    _check_devices("roi_align", (), [features, boxes])
    with torch._C.DisableTorchFunctionSubclass():
        if not (_types and _types[-1]):
            return on_cuda(torch.ops.torchvision.roi_align(on_host(features), on_host(boxes), *others))
        found = torch.ops.torchvision.roi_align(on_host(features).float(), on_host(boxes).float(), *others)
        return on_cuda(found.to(features.dtype))


_SPECIAL: dict[str, Callable[..., Any]] = {
    "numpy": _no_numpy,
    "__array__": _no_numpy,
    "pin_memory": _pinned,
    "bmm": _product(torch.bmm),
    "mm": _product(torch.mm),
    "roi_align": _regions,
}


# ------------------------------------------------------------------------------------------ the whole


class _Mode(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _compute(func, tuple(args), dict(kwargs or {}))


class _Event:
    """A mark in time without a device."""

    def __init__(self, **_: Any) -> None: ...

    def record(self, *_: Any) -> None: ...

    def elapsed_time(self, other: _Event) -> float:
        return 1.0


@contextlib.contextmanager
def pretend_cuda() -> Iterator[torch.device]:
    """Within it, the device that is yielded can be used."""
    real = torch.autocast

    def autocast(device_type: str, dtype: torch.dtype | None = None, enabled: bool = True, **options: Any) -> Any:
        if torch.device(device_type).type == "cuda":
            return _Autocast(dtype, enabled)
        return real(device_type, dtype=dtype, enabled=enabled, **options)

    fixed = {"synchronize": None, "reset_peak_memory_stats": None, "max_memory_allocated": 0, "max_memory_reserved": 0}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in fixed.items():
            patch.setattr(torch.cuda, name, lambda *_, value=value: value)
        patch.setattr(torch.cuda, "Event", _Event)
        patch.setattr(torch, "autocast", autocast)
        patch.setattr(nn.Module, "to", _module_to)
        patch.setattr(torch.Tensor, "pin_memory", _pinned)  # threads do not inherit the mode
        with _Mode():
            yield CUDA
