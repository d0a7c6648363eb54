"""Models that are built and captured here: their programs say what they are, and send weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import torch

from remora.core.errors import BadValue, Refused
from remora.core.plugins import Registry
from remora.remote.graph.capture import Captured, capture
from remora.remote.graph.decoder import capture_decoder
from remora.remote.graph.layout import layout_of
from remora.remote.messages import Given, Prepare, Prepared, Recipe
from remora.remote.server.builders import Builder, built
from remora.remote.server.models import Model, Models
from remora.remote.server.weights import WeightStore
from remora.remote.wire.tensors import DTYPES

_CONFIG_BYTES = 2**20
_MOST_GIVEN = 1000
_MOST_ELEMENTS = 2**28
"""Of an example that a model is traced with."""


@dataclass(frozen=True)
class Recipes:
    """Builds and captures. Thread-safe.

    Args:
        builders: by name.
        weights: where the tensors are that the programs have sent.
        models: where what was captured is loaded.
    """

    builders: Registry[Builder]
    weights: WeightStore
    models: Models

    def prepare(self, asked: Prepare) -> tuple[list[Model], Prepared]:
        """The models of one kind of call, each held once, and what their client is told.

        Raises:
            Refused, BadValue, Unavailable, UnknownName: the recipe cannot be followed.
            CannotCapture: what it makes cannot become a graph.
        """
        if len(asked.names) != len(asked.digests):
            raise BadValue(f"{len(asked.digests)} digests for {len(asked.names)} weights")
        held = self.weights.hold(asked.digests)
        try:
            module = self._module(asked.recipe)
            _fill(module, dict(zip(asked.names, (held[d] for d in asked.digests), strict=True)))
            return self._decoder(module) if asked.decoder else self._call(module, asked.given)
        finally:
            self.weights.release(held)

    def _module(self, recipe: Recipe) -> torch.nn.Module:
        if len(recipe.config) > _CONFIG_BYTES:
            raise Refused(f"a config of {len(recipe.config)} bytes; at most {_CONFIG_BYTES}")
        try:
            config = msgspec.json.decode(recipe.config, type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadValue(f"the config is no JSON object: {error}") from error
        builder = self.builders.get(recipe.builder)
        return built(builder, recipe.name, config, self.weights.limit_bytes)

    def _call(
        self, module: torch.nn.Module, given: Sequence[Given]
    ) -> tuple[list[Model], Prepared]:
        args, kwargs = _example(given)
        dims = [_varying(one) for one in given if one.dtype]
        captured = capture(module, args, kwargs, dims=dims)
        layout = layout_of(captured.outputs, captured.graph.outputs)
        model = self._loaded(captured)
        return [model], Prepared(model.name, layout, captured.lines)

    def _decoder(self, module: torch.nn.Module) -> tuple[list[Model], Prepared]:
        decoder = capture_decoder(module)
        models = [self._loaded(decoder.captured, decoder.positions)]
        if decoder.listening is not None:
            models.append(self._loaded(decoder.listening))
        if len(models) == 1:
            return models, Prepared(models[0].name)
        context = len(models[1].graph.outputs)
        return models, Prepared(models[0].name, listening=models[1].name, context=context)

    def _loaded(self, captured: Captured, positions: int | None = None) -> Model:
        for digest in self.weights.lacking(captured.tensors):  # what was uploaded is there
            self.weights.put(digest, captured.tensors[digest])
        encoded = msgspec.msgpack.encode(captured.graph)
        decoder = positions is not None
        return self.models.load(encoded, decoder=decoder, positions=positions or 0)


def _fill(module: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Put ``weights`` in their places, on the host.

    Raises:
        Refused: one has no place, another shape, or is not there.
    """
    here = {name: tensor.to("cpu") for name, tensor in weights.items()}
    try:
        unknown = module.load_state_dict(here, strict=False, assign=True).unexpected_keys
    except RuntimeError as error:
        raise Refused(f"the weights do not fit: {str(error).splitlines()[-1].strip()}") from error
    tie: Any = getattr(module, "tie_weights", None)  # of transformers: one tensor in two places
    if tie is not None:
        tie()
    missing = [name for name, tensor in module.named_parameters() if tensor.is_meta]
    if missing or unknown:
        what = f"lack {missing[0]}" if missing else f"hold {unknown[0][:200]}, which it has not"
        raise Refused(f"the weights of {type(module).__name__} {what}; give its state_dict()")


def _example(given: Sequence[Given]) -> tuple[list[Any], dict[str, Any]]:
    if len(given) > _MOST_GIVEN:
        raise Refused(f"a call with {len(given)} arguments; at most {_MOST_GIVEN}")
    values = [(one.name, _value(one)) for one in given]
    return [v for name, v in values if not name], {name: v for name, v in values if name}


def _value(given: Given) -> Any:
    if not given.dtype:
        return given.constant
    if given.dtype not in DTYPES:
        raise BadValue(f"an argument of dtype {given.dtype[:40]!r}, which there is not")
    if math.prod(max(size, 1) for size in given.shape) > _MOST_ELEMENTS:
        raise Refused(
            f"an argument of shape {[*given.shape]}; at most {_MOST_ELEMENTS} elements are taken"
        )
    return torch.zeros(given.shape, dtype=DTYPES[given.dtype])


def _varying(given: Given) -> dict[int, Any] | None:
    return dict.fromkeys(given.varying, torch.export.Dim.AUTO) or None
