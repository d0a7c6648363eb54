"""What becomes of one call of a root module."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from secrets import token_hex
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

    At once, where a text begins and all of it is wanted, and where the model keeps nothing. Else by
    a session, or where that cannot hold what the model keeps, by reading the whole text.

    Raises:
        CannotCapture: the model cannot become a graph.
    """
    given = _by_name(module, args, kwargs)
    if given is None or not _keeps_cache(module, given):
        return model(*args, **kwargs)
    past = past_of(given)
    _refuse_foreign(past)
    if text_of(given) not in given:
        raise _cannot(module, "no token ids")
    more = [name for name, value in given.items() if name.startswith("output_") and value]
    if not isinstance(past, RemoteCache | Reread):
        if more or not _only_last(given):
            return reread(model, module, given)
    elif more:
        raise _cannot(module, ", ".join(more))
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
    return uses and "labels" not in given


def _only_last(given: Mapping[str, Any]) -> bool:
    """Whether logits behind the last token are all that is wanted."""
    keep = given.get("logits_to_keep", 0)
    return given[text_of(given)].shape[1] == 1 or (isinstance(keep, int) and keep == 1)


def _continued(model: RemoteModel, given: dict[str, Any]) -> Any:
    """A call that reads tokens behind those that its cache has read."""
    ids, mask = given["input_ids"], given.get("attention_mask")
    cache = _cache_of(model, given)
    tokens = [real_tokens(ids, mask, index) for index in range(len(cache.rows))]
    if _only_last(given):
        read = [row.read(new) for row, new in zip(cache.rows, tokens, strict=True)]
        logits = torch.cat(read)
    else:
        logits = _all_logits(model, cache, tokens, ids.shape[1])
    cache.grow(ids.shape[1])
    return _output(logits, cache, given)


def _all_logits(
    model: RemoteModel, cache: RemoteCache, tokens: Sequence[torch.Tensor], new: int
) -> torch.Tensor:
    """Logits of each of the ``new`` tokens, by reading the whole text: sessions give the last."""
    for row, given in zip(cache.rows, tokens, strict=True):
        row.owe(given)
    if len({len(row.tokens) for row in cache.rows}) > 1:
        raise CannotCapture(
            f"all logits of {new} tokens are wanted, behind texts of several lengths; a session "
            "gives those of the last: pass logits_to_keep=1, or use_cache=False"
        )
    ids = torch.tensor([row.tokens for row in cache.rows])
    logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits[:, -new:]
    return logits


def _refuse_what_sessions_cannot(module: torch.nn.Module, given: Mapping[str, Any]) -> None:
    if unknown := sorted(given.keys() - _KNOWN):
        raise _cannot(module, ", ".join(unknown))


def _cannot(module: torch.nn.Module, what: str) -> CannotCapture:
    return CannotCapture(
        f"{type(module).__name__} is called with {what}, which nothing that it keeps on a server "
        "can answer; call it with use_cache=False, and it runs as one graph"
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


def _cache_of(model: RemoteModel, given: Mapping[str, Any]) -> RemoteCache:
    """That of earlier calls; where those were one call, its text is read by sessions first."""
    past, mask = past_of(given), given.get("attention_mask")
    if isinstance(past, RemoteCache):
        return past
    key = token_hex(8)
    made: RemoteCache = remote_cache([Row(model, key) for _ in range(given["input_ids"].shape[0])])
    if isinstance(past, Reread):
        count = past.ids.shape[1]
        for index, row in enumerate(made.rows):
            row.owe(real_tokens(past.ids, None if mask is None else mask[:, :count], index))
        made.grow(count)
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
