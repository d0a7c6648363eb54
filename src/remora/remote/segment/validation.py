"""Whether a plan that came from a stranger may be run: everything about it that can be checked."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

import msgspec

from remora.core.errors import Refused
from remora.core.units import format_bytes
from remora.remote.graph.nodes import Named
from remora.remote.graph.operators import NAMED, object_of
from remora.remote.segment.guards import check_shapes
from remora.remote.segment.operators import Operator, operator_named
from remora.remote.segment.plan import (
    FETCH,
    FREE,
    PUT,
    VERSION,
    WEIGHT,
    Made,
    Part,
    Plan,
    Seen,
    Several,
    Signature,
    extent,
    scalars_in,
    seen_in,
)
from remora.remote.segment.shapes import META, dense_bytes, made_by, row_by_row


class PlanLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The most that a plan may hold."""

    encoded_bytes: int = 16 * 2**20
    stream: int = 1_000_000
    dimensions: int = 16
    items: int = 10_000
    """Items of one list of arguments."""
    depth: int = 3
    """Lists in lists."""
    tensor_bytes: int = 64 * 2**30
    """One tensor, as large as it looks."""


@dataclass
class Step:
    """One entry of the stream."""

    signature: Signature
    read: list[int]
    """Memories of its tensors."""
    made: list[int]
    """Memories that it makes."""
    scalars: list[int] = field(default_factory=list)
    """Numbers of its scalars."""
    freed: list[int] = field(default_factory=list)
    """Memories that nobody needs behind it."""


def decode(encoded: bytes | memoryview, limits: PlanLimits) -> Plan:
    """A plan from its bytes.

    Raises:
        Refused: it is none, or too large.
    """
    if len(encoded) > limits.encoded_bytes:
        raise Refused(f"a plan of {len(encoded)} bytes; at most {limits.encoded_bytes} are taken")
    try:
        plan = msgspec.msgpack.decode(encoded, type=Plan)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"this is no plan: {error}") from error
    if plan.version != VERSION:
        raise Refused(f"a plan of version {plan.version}; this server runs version {VERSION}")
    if len(plan.stream) > limits.stream:
        raise Refused(f"a plan of {len(plan.stream)} numbers; at most {limits.stream} are taken")
    return plan


class Checked:
    """Signatures that were found to be right: most come again in other plans. Thread-safe."""

    def __init__(self, limits: PlanLimits, most: int = 65_536) -> None:
        self._limits, self._most = limits, most
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._guard = threading.Lock()

    def check(self, signature: Signature) -> None:
        """Check all that ``signature`` says.

        Raises:
            Refused: an operator, a name or a size that is not allowed, arguments that do not go
                together, or it makes something else than it says.
        """
        key = msgspec.msgpack.encode(signature)
        with self._guard:
            if key in self._known:
                self._known.move_to_end(key)
                return
        _check_signature(signature, self._limits)
        with self._guard:
            self._known[key] = None
            if len(self._known) > self._most:
                self._known.popitem(last=False)


def steps_of(plan: Plan) -> list[Step]:
    """The stream as steps.

    Raises:
        Refused: it is cut short, or names a signature or a memory that is not there.
    """
    return _Reading(plan).steps


class _Reading:
    """Reads a stream from its beginning to its end."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._at = plan, 0
        self._met, self._inputs, self._met_scalars = 0, 0, 0
        self._freed = set[int]()
        self._bytes: list[int] = []
        self._seen = [seen_in(signature) for signature in plan.signatures]
        self._scalars = [scalars_in(signature) for signature in plan.signatures]
        self.steps: list[Step] = []
        while self._at < len(plan.stream):
            self._read()
        if self._inputs != len(plan.inputs):
            raise Refused(f"a plan says {len(plan.inputs)} inputs, and reads {self._inputs}")
        if self._met_scalars != plan.scalars:
            raise Refused(f"a plan says {plan.scalars} scalars, and reads {self._met_scalars}")

    def _read(self) -> None:
        number = self._next()
        if number == FREE:
            self._free(self._next())
            return
        if not 0 <= number < len(self._seen):
            raise Refused(f"signature {number} of {len(self._seen)} is not there")
        signature = self._plan.signatures[number]
        read = [self._memory(seen) for seen in self._seen[number]]
        made = [self._new(dense_bytes(made)) for made in signature.made if made is not None]
        scalars = [self._scalar() for _ in range(self._scalars[number])]
        self.steps.append(Step(signature, read, made, scalars))

    def _next(self) -> int:
        if self._at >= len(self._plan.stream):
            raise Refused("the stream of a plan ends in the middle of a step")
        self._at += 1
        return self._plan.stream[self._at - 1]

    def _memory(self, seen: Seen) -> int:
        memory = self._next()
        if memory == self._met:
            self._input()
        if not 0 <= memory < self._met or memory in self._freed:
            raise Refused(f"memory {memory} is read before it is there, or behind its end")
        itemsize = NAMED["dtype"][seen.dtype].itemsize
        if extent(seen.sizes, seen.strides, seen.offset) * itemsize > self._bytes[memory]:
            raise Refused(f"a tensor reaches beyond its memory of {self._bytes[memory]} bytes")
        return memory

    def _scalar(self) -> int:
        scalar = self._next()
        self._met_scalars += scalar == self._met_scalars
        if not 0 <= scalar < self._met_scalars:
            raise Refused(f"scalar {scalar} behind {self._met_scalars} others")
        return scalar

    def _input(self) -> None:
        if self._inputs >= len(self._plan.inputs):
            raise Refused("a plan reads more inputs than it says it has")
        size = self._plan.inputs[self._inputs]
        if not 0 <= size < 2**60:
            raise Refused(f"an input of {size} bytes")
        self._new(size)
        self._inputs += 1

    def _new(self, size: int) -> int:
        self._bytes.append(size)
        self._met += 1
        return self._met - 1

    def _free(self, memory: int) -> None:
        if not 0 <= memory < self._met or memory in self._freed or not self.steps:
            raise Refused(f"memory {memory} is freed that is not there")
        self._freed.add(memory)
        self.steps[-1].freed.append(memory)


def _check_signature(signature: Signature, limits: PlanLimits) -> None:
    for part in (*signature.arguments, *(part for _, part in signature.keywords)):
        _check_part(part, limits)
    if scalars_in(signature) and not _takes_scalars(signature):
        raise Refused(f"{signature.operator[:100]} takes no numbers that come with a segment")
    for made in signature.made:
        if made is not None:
            _check_tensor(made, limits)
    if signature.operator in _SPECIAL:
        _SPECIAL[signature.operator](signature)
        return
    operator = operator_named(signature.operator)
    _check_names(operator, signature)
    check_shapes(operator, signature)
    try:
        all_made = made_by(operator, signature)
    except Refused:
        raise
    except Exception as error:  # of any kind: torch has many ways to say no
        raise Refused(f"{operator.name} does not take this: {_first_line(error)}") from error
    if all_made != signature.made:
        raise Refused(f"{operator.name} makes other tensors than the plan says")


def _check_names(operator: Operator, signature: Signature) -> None:
    known = operator.schema.arguments
    names = [argument.name for argument in known]
    unknown = [name for name, _ in signature.keywords if name not in names]
    if len(signature.arguments) > len(names) or unknown:
        raise Refused(f"{operator.name} takes no such arguments {unknown[:3]}")


def _takes_scalars(signature: Signature) -> bool:
    return signature.operator not in _SPECIAL and operator_named(signature.operator).takes_scalars


def _check_put(signature: Signature) -> None:
    fits = not signature.arguments and not signature.keywords and len(signature.made) == 1
    if not fits or signature.made[0] is None or not _is_contiguous(signature.made[0]):
        raise Refused("a tensor that is put on the server is one, and lies row by row")


def _check_weight(signature: Signature) -> None:
    _check_put(Signature(PUT, (), signature.keywords, signature.made))
    if len(signature.arguments) != 1 or not isinstance(signature.arguments[0], str):
        raise Refused("a weight is known by its digest")


def _check_fetch(signature: Signature) -> None:
    fits = len(signature.arguments) == 1 and isinstance(signature.arguments[0], Seen)
    if not fits or signature.keywords or signature.made:
        raise Refused("what is sent back is one tensor")


_SPECIAL = {PUT: _check_put, WEIGHT: _check_weight, FETCH: _check_fetch}


def _is_contiguous(made: Made) -> bool:
    return made.strides == row_by_row(made.sizes)


def _check_part(part: Part, limits: PlanLimits, depth: int = 0) -> None:
    if isinstance(part, Seen):
        _check_tensor(part, limits)
    elif isinstance(part, Several):
        if depth >= limits.depth or len(part.items) > limits.items:
            raise Refused(f"a list of {len(part.items)} arguments, {depth + 1} deep")
        for item in part.items:
            _check_part(item, limits, depth + 1)
    elif isinstance(part, Named):
        object_of(part.kind, part.name, META)
    elif isinstance(part, int) and not -(2**63) <= part < 2**63:
        raise Refused(f"the number {part} does not fit 64 bits")


def _check_tensor(tensor: Seen | Made, limits: PlanLimits) -> None:
    if tensor.dtype not in NAMED["dtype"]:
        valid = ", ".join(NAMED["dtype"])
        raise Refused(f"unknown dtype {tensor.dtype[:40]!r}; choose from: {valid}")
    numbers = [*tensor.sizes, *tensor.strides, getattr(tensor, "offset", 0)]
    fits = len(tensor.sizes) == len(tensor.strides) <= limits.dimensions
    if not fits or any(not 0 <= number < 2**48 for number in numbers):
        raise Refused(f"no tensor has the shape {list(tensor.sizes)[:20]}")
    size = dense_bytes(Made(tensor.dtype, tensor.sizes, tensor.strides))
    if size > limits.tensor_bytes:
        raise Refused(
            f"a tensor of {format_bytes(size)}; at most {format_bytes(limits.tensor_bytes)} "
            "are taken"
        )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
