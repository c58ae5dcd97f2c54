"""The device ``standin``: PyTorch's PrivateUse1 backend, whose tensors wrap tensors of the CPU.

A `StandIn` reports the device ``standin:0``, so torch's own checks of devices apply. Each operator reaches `StandIn.__torch_dispatch__`, is computed on the wrapped tensors, and its result is wrapped.
An operator that gets tensors of both devices raises, as on CUDA. What CUDA allows is allowed: a CPU tensor without
dimensions in elementwise arithmetic, CPU indices, and copies.

Why: enable it in a fork of the test process only (`tests.forks`). A backend is registered for the rest of a process.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from tests.stand_in.waits import note
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "standin"
aten = torch.ops.aten

SIZES = frozenset(
    {
        aten.nonzero.default,
        aten.masked_select.default,
        aten._unique2.default,
        aten.unique_consecutive.default,
        aten.unique_dim.default,
        aten.bincount.default,
        aten.equal.default,
    }
)
"""Operators that read values before they know their result, or the size of it."""

FACTORIES = (
    "empty.memory_format",
    "empty_strided",
    "arange",
    "arange.start",
    "arange.start_step",
    "linspace",
    "logspace",
    "eye",
    "eye.m",
    "tril_indices",
    "triu_indices",
    "randperm",
    "randperm.generator",
)
"""Operators that make a tensor from no other one. All others of the kind call `empty` and fill it."""

COPIES = frozenset({aten.copy_.default, aten._foreach_copy_.default, aten._foreach_copy.default})
INDEXING = frozenset(
    {aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default, aten.index_put.default}
)
SCALARS_ALLOWED = frozenset(
    {
        *INDEXING,
        aten.masked_fill.Tensor,
        aten.masked_fill_.Tensor,
        aten.fill.Tensor,
        aten.fill_.Tensor,
        aten._foreach_mul.Tensor,
        aten._foreach_mul_.Tensor,
        aten._foreach_div_.Tensor,
        aten._fused_adamw_.tensor_lr,
    }
)
"""Operators without the tag ``pointwise`` that accept a CPU tensor without dimensions on CUDA."""


class StandIn(torch.Tensor):
    """A tensor of the device ``standin``, or a view of one."""

    _cpu: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, cpu: torch.Tensor) -> StandIn:
        tensor: StandIn = torch.Tensor._make_wrapper_subclass(
            cls,
            cpu.shape,
            strides=cpu.stride(),
            storage_offset=cpu.storage_offset(),
            dtype=cpu.dtype,
            layout=cpu.layout,
            device=torch.device(NAME, 0),
        )
        tensor._cpu = cpu
        return tensor

    def __repr__(self, **settings: Any) -> str:
        return f"StandIn({self._cpu!r})"

    # So that `Module.to` swaps a parameter in place, and tied weights stay tied.
    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["_cpu"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, torch.Tensor], *_: Any) -> StandIn:
        return StandIn(inner["_cpu"])

    # `parameter.data = …` replaces the content; for a wrapper that is the wrapped tensor as well.
    @property
    def data(self) -> torch.Tensor:  # type: ignore[override]
        return self.detach()

    @data.setter
    def data(self, value: torch.Tensor) -> None:
        if not isinstance(value, StandIn):
            raise RuntimeError(f"incompatible tensor type: a tensor of {value.device} cannot replace one of {NAME}")
        torch.Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self._cpu = value._cpu

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def data_ptr(self) -> int:
        return self._cpu.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self._cpu.untyped_storage()

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run an operator on the wrapped tensors, check its devices, and record where the host would wait."""
    name = str(func)
    if func is aten._local_scalar_dense.default or func is aten.is_nonzero.default:
        note("read", name)
        return func(args[0]._cpu)
    if func is aten._to_copy.default:
        return _to_copy(*args, **kwargs)
    if func in COPIES:
        return _copy(func, args, kwargs)
    _check_devices(func, args, kwargs)
    if func in INDEXING:
        args = _with_indices(name, args)
    if func in SIZES or (func is aten.repeat_interleave.Tensor and kwargs.get("output_size") is None):
        note("size", name)
    target = kwargs.get("device")
    wraps = target is None or torch.device(target).type == NAME
    if not wraps and torch.device(target).type != "cpu":
        return func(*args, **kwargs)  # `meta`: torch has a kernel for it
    if "device" in kwargs:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    return _run(func, args, kwargs, wraps=wraps)


def _run(func: Any, args: Sequence[Any], kwargs: dict[str, Any], *, wraps: bool = True) -> Any:
    """Run an operator on the wrapped tensors; what it returns of its arguments is returned as it came."""
    came = {id(tensor._cpu): tensor for tensor in _tensors((args, kwargs)) if isinstance(tensor, StandIn)}
    inner = tree_map(_unwrapped, (args, kwargs))
    shapes = {key: tensor._cpu.shape for key, tensor in came.items()}
    result = func(*inner[0], **inner[1])
    for key, tensor in came.items():
        if tensor._cpu.shape != shapes[key]:
            raise NotImplementedError(f"{func}: it resizes an argument, which {NAME} does not support")

    def wrapped(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or isinstance(value, StandIn):
            return value
        if id(value) in came:
            return came[id(value)]
        return StandIn(value) if wraps else value

    return tree_map(wrapped, result)


def _to_copy(
    tensor: torch.Tensor,
    *,
    device: torch.device | None = None,
    non_blocking: bool = False,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format | None = None,
    **settings: Any,
) -> torch.Tensor:
    """Copy a tensor of the device: on it, or to the host, which waits for the value."""
    assert isinstance(tensor, StandIn)
    copied = aten._to_copy.default(tensor._cpu, dtype=dtype, memory_format=memory_format)
    if device is None or torch.device(device).type == NAME:
        return StandIn(copied)
    if torch.device(device).type == "meta":
        return copied.to("meta")
    note("read", "aten._to_copy.default")
    return copied


def _copy(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Copy between tensors, on the device or across."""
    non_blocking = kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
    targets = args[0] if isinstance(args[0], (list, tuple)) else [args[0]]
    sources = args[1] if isinstance(args[1], (list, tuple)) else [args[1]]
    for target, source in zip(targets, sources, strict=True):
        if isinstance(source, StandIn) and not isinstance(target, StandIn):
            note("read", str(func))
        elif isinstance(target, StandIn) and not isinstance(source, StandIn):
            note("copy" if non_blocking else "blocking copy", str(func))
    return _run(func, args, kwargs) if func is not aten.copy_.default else _copied(args[0], args[1])


def _copied(target: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    _unwrapped(target).copy_(_unwrapped(source))
    return target


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    """Copy for `torch.tensor`, which leaves `__torch_dispatch__` out."""
    result: torch.Tensor = _copy(aten.copy_.default, (target, source, non_blocking), {})
    return result


def _check_devices(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    scalars = torch.Tag.pointwise in func.tags or func in SCALARS_ALLOWED
    checked = args[:1] + tuple(args[2:]) if func in INDEXING else args
    for tensor in _tensors((checked, kwargs)):
        if isinstance(tensor, StandIn) or (scalars and tensor.ndim == 0):
            continue
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {NAME}:0 and "
            f"{tensor.device}! (when checking an argument of {func}, of shape {tuple(tensor.shape)})"
        )


def _with_indices(name: str, args: Sequence[Any]) -> Sequence[Any]:
    """Move CPU indices to the device, as CUDA does; a boolean one is read, because the result's size depends on it."""
    indices = []
    masks = [index for index in args[1] if index is not None and index.dtype in (torch.bool, torch.uint8)]
    # `x[mask] = number` is masked_fill.
    fills = len(masks) == len(args[1]) == 1 and len(args) > 2 and args[2].numel() == 1
    for index in args[1]:
        if isinstance(index, StandIn) and index.dtype in (torch.bool, torch.uint8) and not fills:
            note("size", name)
        if index is not None and not isinstance(index, StandIn):
            note("blocking copy", name)
            index = StandIn(index)
        indices.append(index)
    if not isinstance(args[0], StandIn):
        raise RuntimeError(f"indices should be either on cpu or on the same device as the indexed tensor (cpu): {name}")
    return (args[0], indices, *args[2:])


def _tensors(arguments: Any) -> Iterator[torch.Tensor]:
    return (value for value in tree_flatten(arguments)[0] if isinstance(value, torch.Tensor))


def _unwrapped(value: Any) -> Any:
    return value._cpu if isinstance(value, StandIn) else value


def _factory(operator: Any) -> Any:
    def make(*args: Any, device: Any = None, pin_memory: Any = None, **kwargs: Any) -> torch.Tensor:
        return StandIn(operator(*args, device=torch.device("cpu"), **kwargs))

    return make


class _Module:
    """``torch.standin``: what torch asks the module of a device.

    An error in a backward pass ends the process, because torch's Python guard of a device cannot be unwound. It names
    the error only where it comes from outside that pass.
    """

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """Do nothing: random numbers of the device come from the CPU's generator, so that runs can be compared."""

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)

    def synchronize(self, device: Any = None) -> None:
        note("synchronize", "torch.standin.synchronize")

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def empty_cache(self) -> None:
        """Do nothing: there is no cache."""


class Generator(torch.Generator):
    """A generator that may be the device's. It then draws the CPU's numbers, so that runs can be compared."""

    def __new__(cls, device: Any = "cpu") -> Generator:
        on = torch.device(device)
        return super().__new__(cls, device="cpu" if on.type == NAME else on)


def enable() -> torch.device:
    """Register the device in this process, for the rest of it, and return it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
        library = torch.library.Library("aten", "IMPL")
        library.impl("_copy_from", _copy_from, "PrivateUse1")
        for name in FACTORIES:
            packet, _, overload = name.partition(".")
            operator = getattr(getattr(aten, packet), overload or "default")
            library.impl(name, _factory(operator), "PrivateUse1")
    globals()["_library"] = library
    # Of the thread that calls `backward`: autograd's engine makes threads for devices at its first use, which may have
    # been before the fork.
    torch.autograd.set_multithreading_enabled(False)
    torch.Generator = Generator  # type: ignore[misc] - a Python backend cannot register one
    return torch.device(NAME, 0)
