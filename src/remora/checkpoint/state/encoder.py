"""Writing a state as a document: every type that a state may have, and where tensors are named."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

import msgspec
import numpy as np
import torch

from remora.checkpoint.state.known import KnownDict, known_dict
from remora.checkpoint.state.plain import (
    DEEPEST,
    ENCODERS,
    FACTORIES,
    Json,
    encode_numpy_scalar,
    numpy_dtype_name,
)
from remora.checkpoint.state.stored import PLAIN, as_stored, unsupported

_FACTORY_NAMES = {factory: name for name, factory in FACTORIES.items()}


class Refused(Exception):
    """Something that cannot be stored; the way to it is put together while this goes up."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.way: list[str] = []

    def below(self, step: str) -> Refused:
        self.way.append(step)
        return self

    def sentence(self) -> str:
        where = "".join(reversed(self.way)).removeprefix(".")
        return f"the state's {where[:200] or 'root'} is {self.what}"


class Encoder:
    """One flattening: the tensors so far, and how each type is written.

    Args:
        known: dicts of tensors by name, as earlier flattenings of the same state met them; this
            one adds its own.
    """

    def __init__(self, known: dict[str, KnownDict] | None = None) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self.taken: list[KnownDict] = []
        """Those of ``known`` that are as they were."""
        self._known = known
        self._places: dict[int, tuple[str, ...]] = {}
        self._containers: dict[type, Callable[[Any, str, int], Json]] = {
            dict: self.mapping,
            list: self._list,
            tuple: lambda value, name, depth: {"$tuple": self._list(value, name, depth)},
            OrderedDict: self._ordered,
            defaultdict: self._default,
            Counter: lambda value, name, depth: {"$counter": self.mapping(value, name, depth)},
            set: lambda value, name, depth: {"$set": self._set(value, name, depth)},
            frozenset: lambda value, name, depth: {"$frozenset": self._set(value, name, depth)},
        }

    def value(self, value: Any, name: str, depth: int) -> Json:
        """``value``, which lies at ``name``, as JSON; its tensors join :attr:`tensors`."""
        kind = type(value)
        if kind in PLAIN:
            return self._tensor(value, name)
        if (plain := ENCODERS.get(kind)) is not None:
            return plain(value)
        if (container := self._containers.get(kind)) is not None:
            if depth >= DEEPEST:
                raise Refused(f"nested deeper than {DEEPEST} levels; flatten it, or leave it out")
            return container(value, name, depth + 1)
        if isinstance(value, torch.Tensor):
            return self._tensor(value, name)
        return self._numpy(value, name)

    def mapping(self, value: Mapping[Any, Any], name: str, depth: int) -> Json:
        """A dict as an object where its keys allow that, as pairs where they do not."""
        known = self._known.get(name) if self._known is not None else None
        if known is not None and self._takes(known, value):
            return known.json
        count = len(self.tensors)
        encoded = self._mapping(value, name, depth)
        if self._known is not None and len(self.tensors) > count:
            named = dict(islice(self.tensors.items(), count, None))
            if (known := known_dict(value, named, encoded)) is not None:
                self._known[name] = known
        return encoded

    def _takes(self, known: KnownDict, value: Mapping[Any, Any]) -> bool:
        """Take ``value`` as it is known, unless another has its memory or one of its names."""
        tensors = known.again(value)
        if tensors is None or not (
            self._places.keys().isdisjoint(known.places)
            and self.tensors.keys().isdisjoint(known.names)
        ):
            return False
        self.taken.append(known)
        self._places.update(known.places)
        self.tensors.update(zip(known.names, tensors, strict=True))
        return True

    def _mapping(self, value: Mapping[Any, Any], name: str, depth: int) -> Json:
        prefix = f"{name}." if name else ""
        if not _are_words(value):
            return {"$dict": self._pairs(value, prefix, depth)}
        encoded: dict[str, Json] = {}
        for key, item in value.items():
            try:
                encoded[key] = self.value(item, prefix + key, depth)
            except Refused as refused:
                raise refused.below(f".{key}") from None
        return encoded

    def _pairs(self, value: Mapping[Any, Any], prefix: str, depth: int) -> Json:
        pairs = []
        for key, item in value.items():
            try:
                encoded = self._key(key, depth)
                pairs.append([encoded, self.value(item, prefix + _step(key, encoded), depth)])
            except Refused as refused:
                raise refused.below(f"[{key!r}]") from None
        return pairs

    def _key(self, key: Any, depth: int) -> Json:
        """A key of a dict or an item of a set: what compares by value alone."""
        if depth > DEEPEST:
            raise Refused(f"keyed by what is nested deeper than {DEEPEST} levels; use its text")
        kind = type(key)
        if (plain := ENCODERS.get(kind)) is not None:
            return plain(key)
        if kind is tuple:
            return {"$tuple": [self._key(item, depth + 1) for item in key]}
        if kind is frozenset:
            return {"$frozenset": self._set(key, "", depth + 1)}
        if isinstance(key, np.generic) and (encoded := encode_numpy_scalar(key)) is not None:
            return encoded
        raise Refused(f"keyed by a {kind.__qualname__}; use numbers, text or tuples of those")

    def _list(self, value: Iterable[Any], name: str, depth: int) -> list[Json]:
        encoded = []
        for index, item in enumerate(value):
            try:
                encoded.append(self.value(item, f"{name}.{index}", depth))
            except Refused as refused:
                raise refused.below(f"[{index}]") from None
        return encoded

    def _set(self, value: Iterable[Any], _name: str, depth: int) -> list[Json]:
        return sorted((self._key(item, depth) for item in value), key=msgspec.json.encode)

    def _ordered(self, value: OrderedDict[Any, Any], name: str, depth: int) -> Json:
        """With the versions of its modules, if it is what a module's ``state_dict()`` gave."""
        encoded = {"$ordered": self.mapping(value, name, depth)}
        if (versions := getattr(value, "_metadata", None)) is not None:
            encoded["versions"] = self.value(versions, f"{name}.versions", depth)
        return encoded

    def _default(self, value: defaultdict[Any, Any], name: str, depth: int) -> Json:
        made = _FACTORY_NAMES.get(value.default_factory)
        if made is None:
            choices = ", ".join(FACTORIES)
            raise Refused(f"a defaultdict of {value.default_factory!r}; choose from: {choices}")
        return {"$default": made, "items": self.mapping(value, name, depth)}

    def _tensor(self, tensor: torch.Tensor, name: str) -> Json:
        if (reason := unsupported(tensor)) is not None:
            raise Refused(reason)
        stored, tag = as_stored(tensor.detach() if tensor.requires_grad else tensor)
        name = self._named(stored, name)
        return {"$tensor": name} if tag is None else {"$tensor": name, "as": tag}

    def _named(self, tensor: torch.Tensor, name: str) -> str:
        """The name under which ``tensor`` is stored: another's, if that is the same memory."""
        address = tensor.data_ptr()  # 0 if it has no elements
        others = self._places.get(address)
        for known in others or ():
            if _same_view(tensor, self.tensors[known]):
                return known
        name = self._free(name)
        if address:
            self._places[address] = (*others, name) if others else (name,)
        self.tensors[name] = tensor
        return name

    def _free(self, name: str) -> str:
        """``name`` as UTF-8 text that no tensor has yet: ``a.b`` in ``a`` and ``b`` in ``a.b``."""
        if not name.isascii():
            name = name.encode("utf-8", "backslashreplace").decode()
        if not name or name.startswith("__"):  # a slot's own tensors are named so
            name = f"~{name}"
        free, count = name, 1
        while free in self.tensors:
            free, count = f"{name}~{count}", count + 1
        return free

    def _numpy(self, value: Any, name: str) -> Json:
        encoded = None
        if isinstance(value, np.generic):
            encoded = encode_numpy_scalar(value)
        elif type(value) is np.ndarray:
            encoded = self._array(value, name)
        if encoded is None:
            raise Refused(
                f"a {type(value).__module__}.{type(value).__qualname__}; a checkpoint holds "
                "tensors, arrays, numbers, text, bytes and lists, tuples, dicts, sets of those: "
                "convert it, or leave it out"
            )
        return encoded

    def _array(self, array: np.ndarray[Any, Any], name: str) -> Json | None:
        """As a tensor where torch has its dtype; otherwise as bytes, with the dtype and shape."""
        dtype_name = numpy_dtype_name(array.dtype)
        if dtype_name is None:
            return None
        try:
            tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
        except (TypeError, ValueError):  # no such dtype, or negative strides
            flat = np.ascontiguousarray(array).reshape(-1)
            tensor = torch.frombuffer(bytearray(flat.tobytes()) or bytearray(1), dtype=torch.uint8)
            shape = list(array.shape)
            encoded = self._tensor(tensor[: flat.nbytes], name)
            return {"$array": encoded, "dtype": dtype_name, "shape": shape}
        return {"$array": self._tensor(tensor, name)}


def _are_words(keys: Iterable[Any]) -> bool:
    """Whether JSON can have them as an object's keys, and none looks like a tag."""
    for key in keys:  # noqa: SIM110, a generator takes twice the time
        if type(key) is not str or key[:1] == "$" or not key.isascii():
            return False
    return True


def _step(key: Any, encoded: Json) -> str:
    """A key's part in a name. Not its ``repr``: a set's differs from run to run."""
    kind = type(key)
    return str(key) if kind is int or kind is str else msgspec.json.encode(encoded).decode()


def _same_view(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Of tensors that begin at one address: whether they are the same elements, in one order."""
    return (
        one.dtype is other.dtype
        and one.shape == other.shape
        and one.stride() == other.stride()
        and one.device == other.device
    )
