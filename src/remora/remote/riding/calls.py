"""What becomes of one call of a root module."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from remora.core.errors import CannotCapture
from remora.remote.riding.cache import RemoteCache, Row, remote_cache
from remora.remote.riding.keeping import Keeping
from remora.remote.riding.rereading import Reread, past_of, reread, text_of

if TYPE_CHECKING:
    from remora.remote.client.model import RemoteModel

_KNOWN = frozenset(
    {
        "input_ids", "attention_mask", "position_ids", "past_key_values", "use_cache",
        "logits_to_keep", "return_dict", "cache_position", "output_attentions",
        "output_hidden_states",
    }
)  # fmt: skip
"""Arguments of a language model that a session can answer."""


def runs_there(module: torch.nn.Module) -> bool:
    """Whether a call of it from outside any other module runs on the server."""
    is_inference = not module.training or not torch.is_grad_enabled()
    return is_inference and next(_tensors(module), None) is not None


def called(
    model: RemoteModel,
    module: torch.nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    keeping: Keeping,
) -> Any:
    """What the call of ``module`` gives, which is ``model`` there.

    By a session where the model keeps keys and values; where it keeps something else, by reading
    the whole text; else at once.

    Raises:
        CannotCapture: the model cannot become a graph.
    """
    given = _by_name(module, args, kwargs)
    if given is None or not _keeps_cache(module, given):
        return model(*args, **kwargs)
    _refuse_foreign(past_of(given))
    if not keeping.has_sessions(model, module):
        return reread(model, module, given)
    _refuse_what_sessions_cannot(module, given)
    return _continued(model, given)


def _tensors(module: torch.nn.Module) -> Any:
    yield from module.parameters()
    yield from module.buffers()


def _by_name(
    module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The arguments of a language model of transformers by their names; None for others."""
    if not hasattr(module, "generate") or not hasattr(module, "config"):
        return None
    names = list(inspect.signature(module.forward).parameters)
    named = {**dict(zip(names, args, strict=False)), **kwargs}
    return {name: value for name, value in named.items() if value is not None}


def _keeps_cache(module: torch.nn.Module, given: Mapping[str, Any]) -> bool:
    if isinstance(past_of(given), RemoteCache | Reread):
        return True
    config: Any = module.config
    uses = bool(given.get("use_cache", getattr(config, "use_cache", False)))
    return uses and "labels" not in given and text_of(given) in given


def _continued(model: RemoteModel, given: dict[str, Any]) -> Any:
    """A call that reads tokens behind those that its cache has read."""
    ids, mask = given["input_ids"], given.get("attention_mask")
    cache = _cache_of(model, given.get("past_key_values"), ids.shape[0])
    keep = given.get("logits_to_keep", 0)
    if ids.shape[1] == 1 or (isinstance(keep, int) and keep == 1):
        logits = torch.cat(
            [row.read(real_tokens(ids, mask, index)) for index, row in enumerate(cache.rows)]
        )
    elif cache.get_seq_length():
        raise CannotCapture(
            f"all logits of {ids.shape[1]} tokens are wanted behind {cache.get_seq_length()} others"
            "; a session gives those of the last: pass logits_to_keep=1, or use_cache=False"
        )
    else:
        logits = model(**{**given, "use_cache": False, "past_key_values": None}).logits
        for index, row in enumerate(cache.rows):
            row.owe(real_tokens(ids, mask, index))
    cache.grow(ids.shape[1])
    return _output(logits, cache, given)


def _refuse_what_sessions_cannot(module: torch.nn.Module, given: Mapping[str, Any]) -> None:
    unknown = sorted(
        name
        for name, value in given.items()
        if name not in _KNOWN or (name.startswith("output_") and value)
    )
    if unknown or "input_ids" not in given:
        raise CannotCapture(
            f"{type(module).__name__} is called with {', '.join(unknown) or 'no input_ids'}, which "
            "a session cannot answer; call it with use_cache=False, and it runs as one graph"
        )


def _refuse_foreign(past: Any) -> None:
    if past is not None and not isinstance(past, RemoteCache | Reread) and _holds_something(past):
        raise CannotCapture(
            f"a {type(past).__name__} that was filled here is passed to a model that runs on a "
            "server; begin with an empty one, or with none"
        )


def _holds_something(past: Any) -> bool:
    """Whether a cache of transformers, or a tuple of tensors of an older one, has been filled."""
    read = getattr(past, "self_attention_cache", past)
    return any(map(_is_filled, getattr(read, "layers", [read])))


def _is_filled(layer: Any) -> bool:
    if hasattr(layer, "get_seq_length"):
        return bool(layer.get_seq_length())
    states = getattr(layer, "has_previous_state", True)
    return any(states.values()) if isinstance(states, dict) else bool(states)


def _cache_of(model: RemoteModel, past: Any, rows: int) -> RemoteCache:
    if isinstance(past, RemoteCache):
        return past
    made: RemoteCache = remote_cache([Row(model) for _ in range(rows)])
    return made


def real_tokens(ids: torch.Tensor, mask: torch.Tensor | None, row: int) -> torch.Tensor:
    """The tokens of one row, without those that only fill it up."""
    tokens = ids[row]
    if mask is None or mask.dim() != 2:
        return tokens
    return tokens[mask[row, -tokens.shape[0] :].bool()]


def _output(logits: torch.Tensor, cache: RemoteCache, given: Mapping[str, Any]) -> Any:
    from transformers.modeling_outputs import CausalLMOutputWithPast

    output = CausalLMOutputWithPast(logits=logits, past_key_values=cache)
    return output if given.get("return_dict", True) else output.to_tuple()
