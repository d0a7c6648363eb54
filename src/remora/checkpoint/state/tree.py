"""A nested state as named tensors and one JSON document, and back, exactly.

The document is the nesting with every plain value in it. An object whose keys are text that does
not begin with ``$`` is a dict; any other object is a tag: ``{"$tensor": "model.weight"}``,
``{"$tuple": […]}``. Names come from where a tensor lies, so that they stay the same from one
checkpoint to the next. Nothing is copied on the way in, and nothing evaluated on the way out.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import torch

from remora.checkpoint.state.plain import (
    DECODERS,
    ENCODERS,
    Json,
    encode_numpy_scalar,
    numpy_dtype,
    numpy_dtype_name,
)
from remora.checkpoint.state.stored import as_stored, restored, unsupported
from remora.core.errors import CheckpointDamaged, StateUnsupported

DEEPEST = 50
"""Levels of nesting that a state may have. A state that contains itself ends here too."""
_DEEPEST_JSON = 4 * DEEPEST
"""A level of state is at most a tag, its pairs and one pair."""

FACTORIES: dict[str, Callable[[], Any] | None] = {
    "None": None, "bool": bool, "int": int, "float": float, "str": str, "bytes": bytes,
    "list": list, "tuple": tuple, "dict": dict, "set": set, "OrderedDict": OrderedDict,
}  # fmt: skip
"""What a ``defaultdict`` may make: nothing here does anything but make an empty value."""
_FACTORY_NAMES = {factory: name for name, factory in FACTORIES.items()}
_TENSORS = frozenset({torch.Tensor, torch.nn.Parameter})


@dataclass(frozen=True)
class Flat:
    """A state, flat.

    ``tensors`` by name in the order met, shared ones once, detached; where and how they lie in
    memory is as it was (any device, any strides), and their dtypes are those of
    :data:`~remora.checkpoint.state.stored.SAFETENSORS_NAMES`. ``document`` is compact JSON.
    """

    tensors: dict[str, torch.Tensor]
    document: bytes


def flatten(state: Mapping[str, Any]) -> Flat:
    """Take ``state`` apart. Tensors are not copied: the result follows their values.

    Two tensors that are the same memory, seen the same way, get one name.

    Raises:
        StateUnsupported: something in it is no plain value; the message says where it lies.
    """
    encoder = _Encoder()
    try:
        nesting = encoder.mapping(state, "", 0)
    except _Refused as refused:
        raise StateUnsupported(refused.sentence()) from None
    return Flat(encoder.tensors, msgspec.json.encode(nesting))


def unflatten(document: bytes, tensor: Callable[[str], torch.Tensor]) -> dict[str, Any]:
    """Put a state together again from its document; ``tensor`` gives each tensor by its name.

    It is asked once a name, and gives the stored form: the dtype that :class:`Flat` has.

    Raises:
        CheckpointDamaged: ``document`` is not one that :func:`flatten` makes, or names a tensor
            for which ``tensor`` raises KeyError.
    """
    return read_document(document, lambda name, tag: _tensor_of(tensor, name, tag))


Leaf = Callable[[str, str | None], torch.Tensor]
"""Gives the tensor that a name and the tag of its dtype stand for."""


def read_document(document: bytes, leaf: Leaf) -> dict[str, Any]:
    """As :func:`unflatten`, with the say over what stands for a tensor. Asked once a name."""
    try:
        nesting = msgspec.json.decode(document)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise CheckpointDamaged(f"the state's document is no JSON: {error}") from None
    try:
        state = _Decoder(leaf).value(nesting, 0)
    except RecursionError:
        raise CheckpointDamaged("the state is nested deeper than this thread's stack") from None
    if type(state) is not dict:
        raise CheckpointDamaged(f"the state's document is a {type(state).__name__}, not a dict")
    return state


def _tensor_of(tensor: Callable[[str], torch.Tensor], name: str, tag: str | None) -> torch.Tensor:
    try:
        found = tensor(name)
    except KeyError:
        raise CheckpointDamaged(f"the state names a tensor {name!r} that is not there") from None
    if tag is None:
        return found
    try:
        return restored(found, tag)
    except (ValueError, RuntimeError) as error:
        raise CheckpointDamaged(f"tensor {name!r}: {error}") from None


class _Refused(Exception):
    """Something that cannot be stored; the way to it is put together while this goes up."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.way: list[str] = []

    def below(self, step: str) -> _Refused:
        self.way.append(step)
        return self

    def sentence(self) -> str:
        where = "".join(reversed(self.way)).removeprefix(".")
        return f"the state's {where[:200] or 'root'} is {self.what}"


class _Encoder:
    """One flattening: the tensors so far, and how each type is written."""

    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
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
        if kind in _TENSORS:
            return self._tensor(value, name)
        if (plain := ENCODERS.get(kind)) is not None:
            return plain(value)
        if (container := self._containers.get(kind)) is not None:
            if depth >= DEEPEST:
                raise _Refused(f"nested deeper than {DEEPEST} levels; flatten it, or leave it out")
            return container(value, name, depth + 1)
        if isinstance(value, torch.Tensor):
            return self._tensor(value, name)
        return self._numpy(value, name)

    def mapping(self, value: Mapping[Any, Any], name: str, depth: int) -> Json:
        """A dict as an object where its keys allow that, as pairs where they do not."""
        prefix = f"{name}." if name else ""
        if not _are_words(value):
            return {"$dict": self._pairs(value, prefix, depth)}
        encoded: dict[str, Json] = {}
        for key, item in value.items():
            try:
                encoded[key] = self.value(item, prefix + key, depth)
            except _Refused as refused:
                raise refused.below(f".{key}") from None
        return encoded

    def _pairs(self, value: Mapping[Any, Any], prefix: str, depth: int) -> Json:
        pairs = []
        for key, item in value.items():
            try:
                pairs.append([self._key(key), self.value(item, f"{prefix}{key}", depth)])
            except _Refused as refused:
                raise refused.below(f"[{key!r}]") from None
        return pairs

    def _key(self, key: Any) -> Json:
        """A key of a dict or an item of a set: what compares by value alone."""
        kind = type(key)
        if (plain := ENCODERS.get(kind)) is not None:
            return plain(key)
        if kind is tuple:
            return {"$tuple": [self._key(item) for item in key]}
        if kind is frozenset:
            return {"$frozenset": self._set(key, "", 0)}
        if isinstance(key, np.generic) and (encoded := encode_numpy_scalar(key)) is not None:
            return encoded
        raise _Refused(f"keyed by a {kind.__qualname__}; use numbers, text or tuples of those")

    def _list(self, value: Iterable[Any], name: str, depth: int) -> list[Json]:
        encoded = []
        for index, item in enumerate(value):
            try:
                encoded.append(self.value(item, f"{name}.{index}", depth))
            except _Refused as refused:
                raise refused.below(f"[{index}]") from None
        return encoded

    def _set(self, value: Iterable[Any], _name: str, _depth: int) -> list[Json]:
        return sorted((self._key(item) for item in value), key=msgspec.json.encode)

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
            raise _Refused(f"a defaultdict of {value.default_factory!r}; choose from: {choices}")
        return {"$default": made, "items": self.mapping(value, name, depth)}

    def _tensor(self, tensor: torch.Tensor, name: str) -> Json:
        if (reason := unsupported(tensor)) is not None:
            raise _Refused(reason)
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
            raise _Refused(
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


def _same_view(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Of tensors that begin at one address: whether they are the same elements, in one order."""
    return (
        one.dtype is other.dtype
        and one.shape == other.shape
        and one.stride() == other.stride()
        and one.device == other.device
    )


class _Decoder:
    """One reading of a document."""

    def __init__(self, leaf: Leaf) -> None:
        self._leaf = leaf
        self._seen: dict[tuple[str, str | None], torch.Tensor] = {}

    def value(self, encoded: Json, depth: int) -> Any:
        """What ``encoded`` stands for."""
        if type(encoded) is dict:
            if depth > _DEEPEST_JSON:
                raise CheckpointDamaged(f"the state is nested deeper than {DEEPEST} levels")
            tag = next(iter(encoded), "")
            if tag[:1] == "$":
                return self._tagged(tag, encoded, depth + 1)
            return {key: self.value(item, depth + 1) for key, item in self._untagged(encoded)}
        if type(encoded) is list:
            return self._list(encoded, depth)
        return encoded

    def _untagged(self, encoded: dict[str, Json]) -> Iterator[tuple[str, Json]]:
        for key, item in encoded.items():
            if key[:1] == "$":
                raise CheckpointDamaged(f"the state's document has a dict with a tag {key!r} in it")
            yield key, item

    def _list(self, encoded: Json, depth: int) -> list[Any]:
        if type(encoded) is not list:
            raise CheckpointDamaged(f"a list is wanted in the state, not {_brief(encoded)}")
        if depth > _DEEPEST_JSON:
            raise CheckpointDamaged(f"the state is nested deeper than {DEEPEST} levels")
        return [self.value(item, depth + 1) for item in encoded]

    def _tagged(self, tag: str, encoded: dict[str, Json], depth: int) -> Any:
        _only(encoded, tag, _FURTHER_KEYS.get(tag, ()))
        if tag == "$tensor":
            return self._tensor(encoded)
        if tag == "$array":
            return self._array(encoded, depth)
        if (decode := DECODERS.get(tag)) is not None:
            return _plain(decode, tag, encoded[tag])
        return self._container(tag, encoded, depth)

    def _container(self, tag: str, encoded: dict[str, Json], depth: int) -> Any:
        inner = encoded[tag]
        match tag:
            case "$tuple":
                return tuple(self._list(inner, depth))
            case "$set":
                return _hashed(set, self._list(inner, depth))
            case "$frozenset":
                return _hashed(frozenset, self._list(inner, depth))
            case "$dict":
                return _hashed(dict, self._pairs(inner, depth))
            case "$counter":
                return Counter(self._dict(inner, depth))
            case "$ordered":
                return self._ordered(encoded, depth)
            case "$default" if isinstance(inner, str) and inner in FACTORIES:
                return defaultdict(FACTORIES[inner], self._dict(encoded.get("items"), depth))
            case _:
                raise CheckpointDamaged(f"the state has an unknown tag: {_brief(encoded)}")

    def _dict(self, encoded: Json, depth: int) -> dict[Any, Any]:
        if type(value := self.value(encoded, depth)) is not dict:
            raise CheckpointDamaged(f"a dict is wanted in the state, not {_brief(encoded)}")
        return value

    def _pairs(self, encoded: Json, depth: int) -> list[list[Any]]:
        pairs = self._list(encoded, depth)
        if not all(type(pair) is list and len(pair) == 2 for pair in pairs):
            raise CheckpointDamaged(f"pairs are wanted in the state, not {_brief(encoded)}")
        return pairs

    def _ordered(self, encoded: dict[str, Json], depth: int) -> OrderedDict[Any, Any]:
        ordered = OrderedDict(self._dict(encoded["$ordered"], depth))
        if "versions" in encoded:
            ordered._metadata = self.value(encoded["versions"], depth)  # type: ignore[attr-defined]
        return ordered

    def _tensor(self, encoded: Json) -> torch.Tensor:
        name, tag = encoded["$tensor"], encoded.get("as")
        if type(name) is not str or not (tag is None or type(tag) is str):
            raise CheckpointDamaged(f"no tensor's name: {_brief(encoded)}")
        if (name, tag) not in self._seen:
            self._seen[name, tag] = self._leaf(name, tag)
        return self._seen[name, tag]

    def _array(self, encoded: dict[str, Json], depth: int) -> np.ndarray[Any, Any]:
        tensor = self.value(encoded["$array"], depth)
        if not isinstance(tensor, torch.Tensor):
            raise CheckpointDamaged(f"no array: {_brief(encoded)}")
        if tensor.is_meta:  # only its shape is asked for
            return np.empty(0)
        return _plain(lambda _: _as_array(tensor, encoded), "$array", None)  # type: ignore[no-any-return]


_FURTHER_KEYS = {
    "$tensor": ("as",),
    "$array": ("dtype", "shape"),
    "$ordered": ("versions",),
    "$default": ("items",),
}


def _as_array(tensor: torch.Tensor, encoded: dict[str, Json]) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = tensor.cpu().numpy()
    if "dtype" not in encoded:
        return array
    return array.view(numpy_dtype(encoded["dtype"])).reshape(encoded.get("shape"))


def _only(encoded: dict[str, Json], tag: str, further: tuple[str, ...]) -> None:
    if unknown := encoded.keys() - {tag, *further}:
        raise CheckpointDamaged(f"{tag} in the state has unknown keys: {_brief(sorted(unknown))}")


def _plain(decode: Callable[[Json], Any], tag: str, encoded: Json) -> Any:
    try:
        return decode(encoded)
    except (ValueError, TypeError, KeyError, OverflowError, RuntimeError) as error:
        raise CheckpointDamaged(f"{tag} in the state: {_brief(encoded)}: {error}") from None


def _hashed(make: Callable[[list[Any]], Any], items: list[Any]) -> Any:
    try:
        return make(items)
    except TypeError as error:
        raise CheckpointDamaged(f"the state has a key that is none: {error}") from None


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
