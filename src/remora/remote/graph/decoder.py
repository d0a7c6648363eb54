"""One step of a language model as a graph: tokens and state in, logits and state out.

The keys and values of earlier tokens are inputs, and with the new ones added they are outputs, so
whoever runs the graph may keep them. The step takes any number of tokens and any length of state:
reading a prompt, a part of one, and decoding one token of several sequences are the same graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from remora.core.errors import CannotCapture
from remora.remote.graph.masks import mask_for
from remora.remote.graph.nodes import Graph, Value
from remora.remote.graph.program import Program
from remora.remote.graph.steps import (
    DecoderStep,
    ListenerStep,
    Listening,
    cache_of,
    filled,
    state_of,
    windows_of,
)

if TYPE_CHECKING:
    # What captures is half of what starting a server would take, and a server captures nothing.
    from remora.remote.graph.capture import Captured, Dims

_BATCH, _NEW, _OLD = 2, 3, 5
"""Sizes of the example: all different, and none of them 1, which would be taken for fixed."""
_TOLERANCE = 1e-3
"""How far logits may be from the model's own, of their largest: sums are taken in another order.
Where the model's numbers are coarser than that, 8 of their steps."""
_MASK = 2
_ADDED, _LOCAL = Value(_MASK, "float32", (-1, 1, -1, -1)), Value(_MASK, "int64", (-1, -1))
"""A mask that the model adds as it is, and one of which it makes its own: a layer with a window
needs that, since it sees less than the others."""
_BEFORE_CONTEXT = 3
"""Tokens, positions and mask."""


@dataclass(frozen=True)
class Decoder:
    """A language model's step as a graph.

    Inputs: token ids (batch, new), positions (batch, new), a mask as
    :func:`~remora.remote.graph.masks.mask_for` makes it, then context, tensors that stay as they
    are from token to token, (batch, …), then the state, tensor by tensor, (batch, heads, old,
    width). Outputs: logits of the last token (batch, 1, vocabulary), then the state (…, old + new,
    …): so there are as many inputs of state as outputs but one, and they are the last.
    """

    captured: Captured
    positions: int
    """How many tokens a sequence may have; 0 where the model does not say."""
    listening: Captured | None = None
    """What makes the context out of sound, where the model has an encoder: a graph with one input,
    whose outputs are the context."""


@dataclass(frozen=True)
class Trial:
    """How a captured step is tried: with which context, against which logits of the model's own."""

    ids: torch.Tensor
    """(1, tokens)"""
    own: torch.Tensor
    """(1, tokens, vocabulary)"""
    context: Sequence[torch.Tensor] = field(default=())


def capture_decoder(model: torch.nn.Module) -> Decoder:
    """``model``, a language model of transformers, as a graph; tried against the model.

    Raises:
        CannotCapture: it is none, keeps other state than keys and values, or gives other logits.
    """
    config: Any = getattr(model, "config", None)
    if config is None:
        raise _no_session(model, "it is no model of transformers")
    if getattr(config, "is_encoder_decoder", False):
        return _with_encoder(model)
    refusals: list[CannotCapture] = []
    for kind in _kinds(model):
        try:
            return Decoder(_tried(model, kind), _positions(config))
        except CannotCapture as error:
            refusals.append(error)
    raise refusals[0]


def context_in(graph: Graph) -> Sequence[Value]:
    """The inputs of a decoder that stay as they are."""
    return graph.inputs[_BEFORE_CONTEXT : len(graph.inputs) - len(graph.outputs) + 1]


def state_in(graph: Graph) -> Sequence[Value]:
    """The inputs of a decoder that come out longer."""
    return graph.inputs[len(graph.inputs) - len(graph.outputs) + 1 :]


def no_state(states: Sequence[Value]) -> list[torch.Tensor]:
    """State of no token yet, one sequence, for a decoder's inputs of state."""
    return [
        torch.zeros(
            1, *(max(size, 0) for size in value.dims[1:]), dtype=getattr(torch, value.dtype)
        )
        for value in states
    ]


# ------------------------------------------------- a decoder by itself


def _kinds(model: torch.nn.Module) -> Sequence[Value]:
    """The masks to try, the cheaper first."""
    has_windows = bool(windows_of(_cache_after(model, _ids(model, 1)[None])))
    return (_LOCAL,) if has_windows else (_ADDED, _LOCAL)


@torch.no_grad()
def _tried(model: torch.nn.Module, kind: Value) -> Captured:
    ids = _ids(model, _BATCH * (_OLD + _NEW)).view(_BATCH, -1)
    windows = windows_of(_cache_after(model, ids[:, :_OLD]))
    state = state_of(_cache_after(model, ids[:, :_OLD], **_plain(windows)))
    captured = _captured(DecoderStep(model), kind, ids[:, _OLD:], (), state)
    own: Any = model(input_ids=ids[:1], use_cache=False)
    _try(model, captured, Trial(ids[:1], own.logits))
    if windows:
        _try_beyond(model, captured, max(windows) + _NEW)
    return captured


@torch.no_grad()
def _cache_after(model: torch.nn.Module, ids: torch.Tensor, **options: Any) -> Any:
    try:
        read: Any = model(input_ids=ids, use_cache=True, **options)
        cache = read.past_key_values
    except (TypeError, AttributeError) as error:
        raise _no_session(model, "it takes no input_ids or returns no past_key_values") from error
    if cache is None:
        raise _no_session(model, "it returns no past_key_values")
    return cache


def _plain(windows: Sequence[int]) -> Mapping[str, Any]:
    """Has a model keep all keys and values, also in layers that see a window of them."""
    return {"past_key_values": cache_of(())} if windows else {}


@torch.no_grad()
def _try_beyond(model: torch.nn.Module, captured: Captured, held: int) -> None:
    """One token behind so many that every window is full, against a cache of the model's own.

    What those tokens left is made up: reading them would take as long as all the rest.
    """
    generator = torch.Generator().manual_seed(0)
    state = [
        torch.randn(1, s.shape[1], held, s.shape[3], generator=generator).to(s.dtype)
        for s in no_state(state_in(captured.graph))
    ]
    ids = _ids(model, held + 1)[None]
    step = _Step(captured, Trial(ids, ids))
    logits, _ = step.run(held, held + 1, state, torch.zeros(1, dtype=torch.int64))
    own: Any = model(input_ids=ids[:, held:], past_key_values=filled(model.config, state))
    _compare(logits, own.logits[:, -1], model)


# ------------------------------------------------- a decoder that listens to an encoder


@torch.no_grad()
def _with_encoder(model: torch.nn.Module) -> Decoder:
    from remora.remote.graph.capture import capture

    config: Any = model.config
    if getattr(model, "main_input_name", "") != "input_features":
        raise _no_session(
            model, "its encoder reads texts of any length, and those of a batch would have to agree"
        )
    length = 2 * int(config.max_source_positions)
    sound = torch.randn(_BATCH, int(config.num_mel_bins), length, dtype=_dtype(model))
    listening = capture(Listening(model), (sound,))
    context = Program(listening.graph, listening.tensors, sound.device).run([sound])
    ids = _ids(model, _BATCH * (_OLD + _NEW)).view(_BATCH, -1)
    read: Any = model(sound, decoder_input_ids=ids[:, :_OLD], use_cache=True)
    state = state_of(read.past_key_values.self_attention_cache)
    kind = Value(_MASK, "float32", (-1, 1, -1, -1))
    captured = _captured(ListenerStep(model), kind, ids[:, _OLD:], context, state)
    own: Any = model(sound[:1], decoder_input_ids=ids[:1], use_cache=False)
    _try(model, captured, Trial(ids[:1], own.logits, [tensor[:1] for tensor in context]))
    return Decoder(captured, int(config.max_target_positions), listening)


# ------------------------------------------------- what they share


def _captured(
    step: torch.nn.Module,
    kind: Value,
    tokens: torch.Tensor,
    context: Sequence[torch.Tensor],
    state: Sequence[torch.Tensor],
) -> Captured:
    from remora.remote.graph.capture import capture

    positions = torch.arange(_OLD, _OLD + _NEW).expand(_BATCH, _NEW).contiguous()
    mask = _mask(kind, state[0].dtype, _NEW, _OLD, torch.zeros(_BATCH, dtype=torch.int64))
    varying = [_any(0, 1), _any(0, 1), _any(0, 1) if mask.dim() == 2 else _any(0, 2, 3)]
    return capture(
        step,
        (tokens, positions, mask, *context, *state),
        dims=[*varying, *(_any(0) for _ in context), *(_any(0, 2) for _ in state)],
    )


def _mask(kind: Value, dtype: torch.dtype, new: int, old: int, pads: torch.Tensor) -> torch.Tensor:
    """Of the ``kind``, and where it is added, of the state's ``dtype``."""
    if kind.dtype != "int64":
        kind = Value(_MASK, str(dtype).removeprefix("torch."), kind.dims)
    return mask_for(kind, new, old, pads, torch.device("cpu"))


@torch.no_grad()
def _try(model: torch.nn.Module, captured: Captured, trial: Trial) -> None:
    """The calls that a session makes, against the model's own.

    A prompt, one more token, and then that token again beside a sequence that is shorter, and so
    lies to the right of what is none.
    """
    step = _Step(captured, trial)
    last = trial.ids.shape[1] - 1
    none = torch.zeros(1, dtype=torch.int64)
    logits, shorter = step.run(0, last - 2, no_state(state_in(captured.graph)), none)
    _compare(logits, trial.own[:, last - 3], model)
    logits, longer = step.run(last - 2, last, shorter, none)
    _compare(logits, trial.own[:, last - 1], model)
    padded = [torch.cat([_padded(s), whole]) for s, whole in zip(shorter, longer, strict=True)]
    logits, _ = step.run(last - 2, last - 1, padded, torch.tensor([2, 0]), last)
    _compare(logits[:1], trial.own[:, last - 2], model)
    _compare(logits[1:], trial.own[:, last], model)


@dataclass(frozen=True)
class _Step:
    """A captured step, to be run on parts of one text."""

    captured: Captured
    trial: Trial

    def run(
        self,
        begin: int,
        end: int,
        state: list[torch.Tensor],
        pads: torch.Tensor,
        *others: int,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Logits behind tokens ``begin`` to ``end``, and behind ``others`` beside them."""
        places = [torch.arange(begin, end), *(torch.tensor([other]) for other in others)]
        positions = torch.stack(places)
        graph, held = self.captured.graph, state[0].shape[2]
        mask = mask_for(graph.inputs[_MASK], end - begin, held, pads, torch.device("cpu"))
        context = [tensor.expand(len(places), *tensor.shape[1:]) for tensor in self.trial.context]
        program = Program(graph, self.captured.tensors, torch.device("cpu"))
        inputs = [self.trial.ids[0, positions], positions, mask, *context, *state]
        logits, *state = program.run(inputs)
        return logits[:, -1], state


def _padded(state: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(state, (0, 0, 2, 0))


def _compare(captured: torch.Tensor, own: torch.Tensor, model: torch.nn.Module) -> None:
    largest = float(own.abs().max())
    apart = float((captured.float() - own.float()).abs().max())
    tolerance = max(_TOLERANCE, 8 * torch.finfo(own.dtype).eps)
    if not apart <= tolerance * max(largest, 1.0):
        raise CannotCapture(
            f"{type(model).__name__} as a graph gives logits {apart:.3g} off its own, of up to "
            f"{largest:.3g}: it does not go by the positions and the mask it is given; "
            "call load() and pass the whole text"
        )


def _no_session(model: torch.nn.Module, reason: str) -> CannotCapture:
    return CannotCapture(
        f"{type(model).__name__} cannot have a session: {reason}; "
        "call load() and pass the whole input"
    )


def _ids(model: torch.nn.Module, count: int) -> torch.Tensor:
    """So many token ids, all of the vocabulary."""
    config: Any = model.config
    return torch.arange(count).remainder(int(getattr(config, "vocab_size", 1)))


def _dtype(model: torch.nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype


def _positions(config: Any) -> int:
    return int(getattr(config, "max_position_embeddings", 0) or 0)


def _any(*dims: int) -> Dims:
    return dict.fromkeys(dims, torch.export.Dim.AUTO)
