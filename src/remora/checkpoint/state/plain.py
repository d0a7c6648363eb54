"""The words of a state's document, and single values in them, exactly.

What JSON has no word for is an object with one ``$`` key.

Decoding evaluates nothing and imports nothing: a tag outside the closed list is refused.
"""

from __future__ import annotations

import base64
import re
import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from remora.checkpoint.state.stored import DTYPES

Json = Any
_WORD = 2**63

DEEPEST = 50
"""Levels of nesting that a state may have. A state that contains itself ends here too."""
FACTORIES: dict[str, Callable[[], Any] | None] = {
    "None": None, "bool": bool, "int": int, "float": float, "str": str, "bytes": bytes,
    "list": list, "tuple": tuple, "dict": dict, "set": set, "OrderedDict": OrderedDict,
}  # fmt: skip
"""What a ``defaultdict`` may make: nothing here does anything but make an empty value."""
_NUMPY_DTYPE = re.compile(r"[<>|][biufcmMSU]\d{1,9}(\[\d{0,9}[A-Za-zμ]{1,2}\])?")


def encode_int(value: int) -> Json:
    """Machine words as they are; larger ones in hexadecimal, which has no limit of digits."""
    return value if -_WORD <= value < _WORD else {"$int": hex(value)}


def encode_float(value: float) -> Json:
    """The shortest decimal that reads back the same; the bits where there is none (inf, nan)."""
    if value - value == 0.0:
        return value
    return {"$float": struct.pack(">d", value).hex()}


def encode_str(value: str) -> Json:
    """Text as it is; with lone surrogates, which are no UTF-8, as bytes."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return {"$str": _base64(value.encode("utf-8", "surrogatepass"))}
    return value


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _encode_complex(value: complex) -> Json:
    return {"$complex": [encode_float(value.real), encode_float(value.imag)]}


ENCODERS: dict[type, Callable[[Any], Json]] = {
    type(None): lambda value: value,
    bool: lambda value: value,
    int: encode_int,
    float: encode_float,
    str: encode_str,
    bytes: lambda value: {"$bytes": _base64(value)},
    complex: _encode_complex,
    torch.dtype: lambda value: {"$dtype": str(value).removeprefix("torch.")},
    torch.device: lambda value: {"$device": str(value)},
    torch.Size: lambda value: {"$size": [int(size) for size in value]},
}
"""By exact type: a subclass (an enum member, say) would come back as something else."""


def encode_numpy_scalar(value: np.generic) -> Json | None:
    """None where its dtype has no plain bytes (objects, structures)."""
    name = numpy_dtype_name(value.dtype)
    return None if name is None else {"$numpy": [name, value.tobytes().hex()]}


def numpy_dtype_name(dtype: np.dtype[Any]) -> str | None:
    """The name that :func:`numpy_dtype` reads; None for objects and structures."""
    return dtype.str if _NUMPY_DTYPE.fullmatch(dtype.str) else None


def numpy_dtype(name: object) -> np.dtype[Any]:
    """The dtype that ``name`` says; never one of objects.

    Raises:
        ValueError: it is no such name.
    """
    if not isinstance(name, str) or not _NUMPY_DTYPE.fullmatch(name):
        raise ValueError(f"no dtype of plain numbers or text: {name!r}")
    try:
        return np.dtype(name)
    except TypeError as error:
        raise ValueError(str(error)) from None


def decode_float(value: Json) -> float:
    """What :func:`encode_float` gave."""
    if type(value) is float:
        return value
    if isinstance(value, dict) and value.keys() == {"$float"}:
        return _decode_float_bits(value["$float"])
    raise ValueError(f"not a float: {value!r}")


def _decode_float_bits(bits: str) -> float:
    try:
        (value,) = struct.unpack(">d", bytes.fromhex(bits))
    except struct.error:
        raise ValueError(f"not the bits of a float: {bits!r}") from None
    return float(value)


def _decode_complex(parts: list[Json]) -> complex:
    real, imaginary = parts
    return complex(decode_float(real), decode_float(imaginary))


def _decode_numpy_scalar(value: list[Json]) -> Any:
    name, data = value
    dtype, data = numpy_dtype(name), bytes.fromhex(data)
    if len(data) != dtype.itemsize:
        raise ValueError(f"{len(data)} bytes for a {name}")
    return np.ndarray((), dtype, buffer=data)[()]


def _decode_size(sizes: list[Json]) -> torch.Size:
    if not all(type(size) is int and abs(size) < _WORD for size in sizes):
        raise ValueError(f"not sizes: {sizes!r}")
    return torch.Size(sizes)


DECODERS: dict[str, Callable[[Json], Any]] = {
    "$int": lambda value: int(value, 16),
    "$float": _decode_float_bits,
    "$str": lambda value: base64.b64decode(value, validate=True).decode("utf-8", "surrogatepass"),
    "$bytes": lambda value: base64.b64decode(value, validate=True),
    "$complex": _decode_complex,
    "$dtype": lambda value: DTYPES[value],
    "$device": torch.device,
    "$size": _decode_size,
    "$numpy": _decode_numpy_scalar,
}
"""By tag. They may raise ValueError, TypeError, KeyError, OverflowError or RuntimeError."""
