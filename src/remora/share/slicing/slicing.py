"""Every call of a job, whole or in pieces: profiles when a call is new, and remembers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from remora.core.clock import Clock, SystemClock
from remora.core.saying import say
from remora.share.slicing import registry
from remora.share.slicing.cache import Cache
from remora.share.slicing.call import Call, bound, tensors_in, written
from remora.share.slicing.contract import Axis
from remora.share.slicing.key import Key, device_name, signature
from remora.share.slicing.outputs import allocate
from remora.share.slicing.profile import Profile, chosen, located
from remora.share.slicing.profiler import Settings, profile

_DRAWS = "pieces would draw other random numbers than the whole"
_COMPUTE_NOTHING = (
    "aten._unsafe_view",
    "aten.empty",
    "aten.new_empty",
    "aten._local_scalar_dense",
    "profiler.",
)
_UNKNOWN = "nothing here can cut it"


SMALL_ELEMENTS = 2048
"""Calls on fewer elements in all run whole without being looked up."""


class Pieces:
    """A call that is cut: its pieces, to be run in order, each once. Then :attr:`result` holds."""

    def __init__(self, operator: Any, values: Mapping[str, Any], kind: _Kind) -> None:
        device = next(tensors_in(list(values.values()))).device
        profile = kind.profile
        outputs = allocate(operator, profile.layouts, values, device)
        self._axes = chosen(profile, registry.parts(Call(operator, values, outputs)))
        self._pieces = kind.located(self._axes)
        self.operator, self.profile = operator, profile
        self._outputs = outputs

    def __len__(self) -> int:
        return len(self._pieces)

    def run(self, begin: int, end: int) -> None:
        """The pieces from ``begin`` to before ``end``, as a policy's ``Run`` names them."""
        with torch.no_grad():
            for place, low, high in self._pieces[begin:end]:
                self._axes[place].run(low, high)

    @property
    def result(self) -> Any:
        """What the operator returns."""
        if not self._outputs:
            return None
        return self._outputs[0] if len(self._outputs) == 1 else self._outputs


class _Kind:
    """A kind of calls that are cut. Where its pieces lie is worked out once, not for every call:
    the code for it would be fetched anew behind each operator that goes through much memory."""

    __slots__ = ("_pieces", "profile")

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._pieces: list[tuple[int, int, int]] = []

    def located(self, axes: Sequence[Axis]) -> list[tuple[int, int, int]]:
        self._pieces = self._pieces or located(self.profile, axes)
        return self._pieces


class Slicing:
    """How the calls of a job are cut.

    Args:
        settings: the bound, and whether pieces must be exact.
        cache: where profiles are kept between runs; None keeps them for this one.
        report: is told of each operator that runs whole beyond the bound, once, and why.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        cache: Cache | None = None,
        clock: Clock | None = None,
        report: Callable[[str], object] = say,
    ) -> None:
        self._settings, self._cache = settings or Settings(), cache
        self._clock, self._report = clock or SystemClock(), report
        self._known: dict[tuple[Any, ...], Profile] = {}
        self._seen: dict[tuple[Any, ...], _Kind | None] = {}
        """By the arguments as they are given: what every call is looked up in."""
        self._said: set[str] = set()
        self._late: set[str] = set()

    @property
    def profiles(self) -> Mapping[tuple[Any, ...], Profile]:
        """All that are known, by operator and signature."""
        return self._known

    @property
    def looked_up(self) -> int:
        """How many kinds of calls it has met, whether they are cut or not."""
        return len(self._seen)

    def pieces(
        self, operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Pieces | None:
        """The call in pieces; None where it is to run whole."""
        if _is_small(args):
            return None
        key = (operator, torch.get_num_threads(), signature(args), *_named(kwargs))
        kind = self._seen.get(key, self)
        if isinstance(kind, Slicing):
            kind = self._seen[key] = self._kind(operator, args, kwargs)
        if kind is None:
            return None
        values = bound(operator, args, kwargs)
        return None if _shares_memory(operator, values) else Pieces(operator, values, kind)

    def _kind(self, operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Kind | None:
        if not registry.has(operator):
            return None
        found = self.profile(operator, bound(operator, args, kwargs))
        return None if found is None or found.pieces == 1 else _Kind(found)

    def profile(self, operator: Any, values: Mapping[str, Any]) -> Profile | None:
        """What is known of this call; it is measured where that is nothing. None without tensors
        or elements."""
        key = (str(operator), torch.get_num_threads(), signature(values.values()))
        if (known := self._known.get(key)) is not None:
            return known
        tensors = list(tensors_in(list(values.values())))
        if not any(each.numel() for each in tensors):
            return None
        found = self._found(operator, values, tensors[0].device, key)
        self._known[key] = found
        if found.reason:
            self._say(operator, found)
        return found

    def _found(
        self, operator: Any, values: Mapping[str, Any], device: torch.device, known: tuple[Any, ...]
    ) -> Profile:
        settings = self._settings
        key = Key(
            operator=str(operator),
            arguments=repr(known[2]),
            device=device_name(device),
            torch=str(torch.__version__),
            threads=(torch.get_num_threads(), *settings.threads),
            turnaround_ns=settings.turnaround_ns,
            exact=settings.exact,
        )
        found = self._cache.find(key) if self._cache is not None else None
        if found is None:
            found = self._measured(operator, values, device)
            if self._cache is not None and found.whole_ns > settings.turnaround_ns // 2:
                self._cache.keep(key, found)
        return found

    def _measured(self, operator: Any, values: Mapping[str, Any], device: torch.device) -> Profile:
        """The job goes on whatever happens here: if a call cannot run, it says so itself."""
        try:
            return profile(operator, values, device, self._settings, self._clock)
        except Exception as error:  # of any kind: there may be no memory for a second result
            why = f"it could not be measured: {error}".splitlines()[0][:200]
            return Profile(0, self._settings.turnaround_ns, reason=why)

    def _say(self, operator: Any, found: Profile) -> None:
        name = str(operator)
        if name in self._said:
            return
        self._said.add(name)
        how = "is cut as fine as it can be" if found.pieces > 1 else "runs whole"
        self._report(
            f"remora: {name} of {found.whole_ns / 1e6:.2f} ms, where {found.turnaround_ns / 1e6:g} "
            f"ms are wanted, {how}: {found.reason}"
        )

    def ran_whole(self, operator: Any, took_ns: int) -> None:
        """``operator`` took so long. That it is none that can be cut is said when that was too
        long for the second time: the first time may be long for other reasons."""
        name = str(operator)
        if took_ns <= self._settings.turnaround_ns or name in self._said or registry.has(operator):
            return
        if name.startswith(_COMPUTE_NOTHING):
            return
        if name not in self._late:
            self._late.add(name)
            return
        is_drawn = torch.Tag.nondeterministic_seeded in operator.tags
        why = _DRAWS if is_drawn else _UNKNOWN
        self._say(operator, Profile(took_ns, self._settings.turnaround_ns, reason=why))


def _is_small(args: Sequence[Any]) -> bool:
    """Whether it is not worth a look: fewer elements than any operator takes 0.1 ms for."""
    elements = 0
    for value in args:
        if isinstance(value, torch.Tensor):
            elements += value.numel()
        elif isinstance(value, list | tuple) and value and isinstance(value[0], torch.Tensor):
            return False
    return elements < SMALL_ELEMENTS


def _named(kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*kwargs, signature(kwargs.values())) if kwargs else ()


def _shares_memory(operator: Any, values: Mapping[str, Any]) -> bool:
    """Whether an argument that is written to is also another one: then the whole, which torch
    checks, and the pieces, which it cannot, may differ."""
    names = written(operator)
    seen: set[int] = set()
    for name in names:
        own = {each.untyped_storage().data_ptr() for each in tensors_in(values[name])}
        if own & seen:
            return True
        seen |= own
    rest = [value for name, value in values.items() if name not in names]
    return any(each.untyped_storage().data_ptr() in seen for each in tensors_in(rest))
