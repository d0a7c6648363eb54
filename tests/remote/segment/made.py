"""Plans by hand."""

from __future__ import annotations

import hashlib

import msgspec

from remora.remote.segment.plan import FETCH, PUT, Made, Part, Plan, Scalar, Seen, Signature

X = Made("float32", (2, 3), (3, 1))
SEEN = Seen("float32", (2, 3), (3, 1))
PUT_X = Signature(PUT, (), (), (X,))
FETCH_X = Signature(FETCH, (SEEN,))
ADD = Signature("aten.add.Tensor", (SEEN, SEEN), (), (X,))
ADD_IN_PLACE = Signature("aten.add_.Tensor", (SEEN, SEEN))
GOOD = Plan((PUT_X, ADD, ADD_IN_PLACE, FETCH_X), (0, 1, 0, 0, 2, 1, 0, -1, 0, 3, 1), ())
"""Puts x, adds it to itself, and x to that in place; frees x, and sends 3 x back."""
SCALED = Plan(
    (PUT_X, Signature("aten.mul.Scalar", (SEEN, Scalar()), (), (X,)), FETCH_X),
    (0, 1, 0, 0, 1, 1, 1, 2, 2),
    (),
    scalars=2,
)
"""Puts x, multiplies it with one scalar, that with another, and sends it back."""


def encoded(plan: Plan) -> tuple[str, bytes]:
    """Its digest and its bytes."""
    content = msgspec.msgpack.encode(plan)
    return hashlib.sha256(content).hexdigest(), content


def one(operator: str, *arguments: Part, made: tuple[Made | None, ...] = (), **named: Part) -> Plan:
    """A plan of one operator on inputs of 4 KiB each."""
    signature = Signature(operator, arguments, tuple(named.items()), made)
    count = sum(isinstance(part, Seen) for part in (*arguments, *named.values()))
    return Plan((signature,), (0, *range(count)), (4096,) * count)
