"""Torch's CUDA caching allocator, replayed: what a sequence of allocations takes of a GPU, without one.

`record` runs work on tensors without bytes and notes each storage that is made and freed. `reserved` gives the notes to
an allocator with torch's rules, and `smallest` finds the least memory in which they all succeed.

Source:
    c10/cuda/CUDACachingAllocator.cpp, with its default settings: rounding to 512 bytes; requests up to 1 MB come from
    segments of 2 MB, up to 10 MB from segments of 20 MB, larger ones from segments of their own, rounded to 2 MB; best
    fit; a rest is split off where it is large enough; cached segments are freed before an allocation fails.
"""

from __future__ import annotations

import bisect
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

KB, MB = 2**10, 2**20
ROUNDING = 512
SMALL = 1 * MB
SMALL_SEGMENT = 2 * MB
LARGE_SEGMENT = 20 * MB
OWN_SEGMENT = 10 * MB
SEGMENT_ROUNDING = 2 * MB


@dataclass(frozen=True, slots=True)
class Event:
    """One allocation or release.

    Attributes:
        number: Which storage.
        size: Its bytes; 0 for its release.
    """

    number: int
    size: int


class OutOfMemory(Exception):
    """An allocation does not fit, even after all cached segments were freed."""


@dataclass(eq=False, slots=True)
class _Block:
    size: int
    segment: int
    is_small: bool
    before: _Block | None = None
    after: _Block | None = None
    free: bool = False


@dataclass
class CachingAllocator:
    """The allocator of one stream.

    Attributes:
        capacity: Bytes of the device; None for any number.
        allocated: Bytes of the blocks in use.
        reserved: Bytes of all segments.
        peak_allocated: The most that was in use.
        peak_reserved: The most that was held.
    """

    capacity: int | None = None
    allocated: int = 0
    reserved: int = 0
    peak_allocated: int = 0
    peak_reserved: int = 0
    _cached: dict[bool, list[tuple[int, int, _Block]]] = field(default_factory=lambda: {True: [], False: []})
    _used: dict[int, _Block] = field(default_factory=dict)
    _order: int = 0

    def allocate(self, number: int, size: int) -> None:
        """Take a block.

        Raises:
            OutOfMemory: If it does not fit into the capacity.
        """
        size = max(ROUNDING, -(-size // ROUNDING) * ROUNDING)
        is_small = size <= SMALL
        block = self._best_fit(size, is_small) or self._new_segment(size, is_small)
        rest = block.size - size
        if rest >= ROUNDING if is_small else rest > SMALL:
            after = _Block(rest, block.segment, is_small, before=block, after=block.after)
            if block.after is not None:
                block.after.before = after
            block.after, block.size = after, size
            self._cache(after)
        self._used[number] = block
        self.allocated += block.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)

    def release(self, number: int) -> None:
        """Return a block to the cache, joined with free neighbours."""
        block = self._used.pop(number)
        self.allocated -= block.size
        for other in (block.before, block.after):
            if other is not None and other.free:
                self._uncache(other)
                block.size += other.size
                if other is block.before:
                    block.before = other.before
                    if block.before is not None:
                        block.before.after = block
                else:
                    block.after = other.after
                    if block.after is not None:
                        block.after.before = block
        self._cache(block)

    def _best_fit(self, size: int, is_small: bool) -> _Block | None:
        cached = self._cached[is_small]
        place = bisect.bisect_left(cached, size, key=lambda entry: entry[0])
        if place == len(cached):
            return None
        block = cached.pop(place)[2]
        block.free = False
        return block

    def _new_segment(self, size: int, is_small: bool) -> _Block:
        if is_small:
            bytes_ = SMALL_SEGMENT
        else:
            bytes_ = LARGE_SEGMENT if size < OWN_SEGMENT else -(-size // SEGMENT_ROUNDING) * SEGMENT_ROUNDING
        if self.capacity is not None and self.reserved + bytes_ > self.capacity:
            self._free_cached_segments()
            if self.reserved + bytes_ > self.capacity:
                raise OutOfMemory
        self.reserved += bytes_
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        return _Block(bytes_, bytes_, is_small)

    def _free_cached_segments(self) -> None:
        for is_small, cached in self._cached.items():
            whole = [entry for entry in cached if entry[2].before is None and entry[2].after is None]
            self.reserved -= sum(entry[0] for entry in whole)
            gone = {id(entry[2]) for entry in whole}
            self._cached[is_small] = [entry for entry in cached if id(entry[2]) not in gone]

    def _cache(self, block: _Block) -> None:
        block.free = True
        self._order += 1
        bisect.insort(self._cached[block.is_small], (block.size, self._order, block), key=lambda entry: entry[:2])

    def _uncache(self, block: _Block) -> None:
        cached = self._cached[block.is_small]
        place = bisect.bisect_left(cached, block.size, key=lambda entry: entry[0])
        while cached[place][2] is not block:
            place += 1
        del cached[place]
        block.free = False


def replay(events: Sequence[Event], *, capacity: int | None = None) -> CachingAllocator:
    """Give a recording to a new allocator.

    Raises:
        OutOfMemory: If it does not fit into the capacity.

    Example:
        >>> replay([Event(0, 3 * MB), Event(0, 0), Event(1, 2 * MB)]).peak_reserved // MB
        20
    """
    allocator = CachingAllocator(capacity)
    for event in events:
        if event.size:
            allocator.allocate(event.number, event.size)
        else:
            allocator.release(event.number)
    return allocator


def smallest(events: Sequence[Event]) -> int:
    """Return the least capacity in which a recording succeeds, to 1%: between the peak in use and the peak held."""
    free = replay(events)
    low, high = free.peak_allocated, free.peak_reserved
    while high - low > high // 100:
        middle = (low + high) // 2
        try:
            replay(events, capacity=middle)
        except OutOfMemory:
            low = middle
        else:
            high = middle
    return high


INSIDE: dict[str, Callable[[Sequence[Any]], int]] = {}
"""Operator → the bytes that its CUDA kernel takes of the allocator while it runs, from its arguments."""


def _inside_flash_backward(args: Sequence[Any]) -> int:
    """Return what FlashAttention 2 sums dQ in: fp32, padded to 128 tokens an example and a width of 32 or more.

    Source:
        aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp, mha_varlen_bwd.
    """
    query, boundaries = args[1], args[6]
    tokens, heads, width = query.shape
    rows = tokens + 128 * boundaries.shape[0]
    groups = heads // args[2].shape[1]
    small = query.element_size()
    # With grouped heads, dK and dV exist once for each query head before they are summed.
    expanded = 2 * tokens * heads * width * small if groups > 1 else 0
    return 4 * rows * heads * (-(-width // 32) * 32) + 4 * rows * heads + expanded


INSIDE["torch_attn::_varlen_attn_backward"] = _inside_flash_backward


class Recorder(TorchDispatchMode):
    """Notes the storages that operators make, until each is freed.

    Attributes:
        events: What happened, in order.
        marks: Places in `events`, by name.
    """

    def __init__(self, device_type: str) -> None:
        super().__init__()
        self.events: list[Event] = []
        self.marks: dict[str, int] = {}
        self._device_type = device_type
        self._alive: dict[int, int] = {}
        self._next = 0

    def mark(self, name: str) -> None:
        """Name the present place."""
        self.marks[name] = len(self.events)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inside = INSIDE.get(func.name().partition(".")[0])
        result = func(*args, **(kwargs or {}))
        for value in tree_flatten(result)[0]:
            if isinstance(value, torch.Tensor):
                self._note(value)
        if inside is not None:
            number = self._count()
            self.events += [Event(number, inside(args)), Event(number, 0)]
        return result

    def hold(self, size: int) -> None:
        """Note bytes that are taken and never returned, as a library's workspace."""
        self.events.append(Event(self._count(), size))

    def _count(self) -> int:
        self._next += 1
        return self._next

    def _note(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if tensor.device.type != self._device_type or key in self._alive or storage.nbytes() == 0:
            return
        number = self._alive[key] = self._count()
        self.events.append(Event(number, storage.nbytes()))
        weakref.finalize(storage, self._freed, key, number)

    def _freed(self, key: int, number: int) -> None:
        if self._alive.get(key) == number:
            del self._alive[key]
            self.events.append(Event(number, 0))
