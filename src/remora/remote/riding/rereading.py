"""A text that the server reads at once, and from its beginning again for what comes behind it.

So begins every text of which all logits are wanted; and so go on those of models that sessions
cannot hold.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import torch

from remora.core.errors import CannotCapture
from remora.remote.client.placed import Placed
from remora.remote.graph.call import Call
from remora.remote.riding.cache import length_after

if TYPE_CHECKING:
    from remora.remote.client.model import RemoteModel

_DECODED = "decoder_input_ids"
_OF_THE_PAST = frozenset({"past_key_values", "cache_params", "cache_position", "use_cache"})
"""What says where a call's tokens stand: they stand at the beginning now."""


class Reread:
    """What :func:`reread` answers with for a cache: the text so far, and a ``Cache`` as well.

    Attributes:
        ids: (batch, tokens), all that was read.
        any_length: whether the graph that has read them reads longer texts as well.
    """

    ids: torch.Tensor
    any_length: bool

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.ids.shape[1]

    def crop(self, max_length: int) -> None:
        """Keep the first ``max_length`` tokens; of a negative number or 0, drop so many."""
        self.ids = self.ids[:, : length_after(self, max_length)]

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Row by row the text of the one at its index."""
        self.ids = self.ids.index_select(0, beam_idx)


def text_of(given: Mapping[str, Any]) -> str:
    """The name of the argument that is the text: of a model with an encoder, what it decodes."""
    return _DECODED if _DECODED in given else "input_ids"


def past_of(given: Mapping[str, Any]) -> Any:
    """What a model of transformers is given of earlier calls; None where this is the first."""
    return given.get("past_key_values", given.get("cache_params"))


def reread(model: RemoteModel, module: torch.nn.Module, given: Mapping[str, Any]) -> Any:
    """The call of ``module`` with all tokens that its cache has seen before those that it is given.

    What comes back is of the latter only, as from a model that keeps a cache.
    """
    text, cache = text_of(given), past_of(given)
    past = cache.ids if isinstance(cache, Reread) else given[text][:, :0]
    ids = torch.cat([past, given[text]], dim=1)
    call = {name: value for name, value in given.items() if name not in _OF_THE_PAST}
    call |= {text: ids, "use_cache": False, "return_dict": True}
    decoder = "decoder_" if text == _DECODED else ""
    if f"{decoder}position_ids" in call:
        places = _places(ids, given.get(f"{decoder}attention_mask"))
        call[f"{decoder}position_ids"] = places
    if isinstance(cache, Reread):
        _refuse_one_length(cache, model)
        _last_only(module, call, given[text].shape[1])
    output = model(**call)
    output.logits = output.logits[:, -given[text].shape[1] :]
    _keep(output, module, _cache(ids, _any_length(model, call, ids)))
    return output if given.get("return_dict", True) else output.to_tuple()


def _refuse_one_length(cache: Reread, model: RemoteModel) -> None:
    if not cache.any_length:
        raise CannotCapture(
            f"{model.graphs.name} decides by the length of its text, so it would be captured anew "
            "for every token; server.device().put(model) runs it operator by operator"
        )


def _last_only(module: torch.nn.Module, call: dict[str, Any], new: int) -> None:
    """Have no more logits come back than are wanted, where the model can leave the others out."""
    if new == 1 and "logits_to_keep" in inspect.signature(module.forward).parameters:
        call["logits_to_keep"] = 1


def _any_length(model: RemoteModel, call: Mapping[str, Any], ids: torch.Tensor) -> bool:
    """Whether the graph that has answered ``call`` takes texts of other lengths as well."""
    asked, tensors = Call.of((), call)
    graph = cast(Placed, model.graphs.graph(asked, tensors))
    place = next(index for index, tensor in enumerate(tensors) if tensor is ids)
    return graph.captured.graph.inputs[place].dims[1] == -1


def _places(ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Positions (batch, tokens), those of padding being any."""
    kept = torch.ones_like(ids) if mask is None or mask.dim() != 2 else mask.long()
    return (kept.cumsum(1) - 1).clamp(min=0)


def _keep(output: Any, module: torch.nn.Module, cache: Any) -> None:
    """Under the name by which the model takes it back."""
    takes = inspect.signature(module.forward).parameters
    output["cache_params" if "cache_params" in takes else "past_key_values"] = cache


@lru_cache(maxsize=1)
def _cache_class() -> Any:
    return type("RereadCache", (Reread, import_module("transformers").DynamicCache), {})


def _cache(ids: torch.Tensor, any_length: bool) -> Any:
    cache = _cache_class()()
    cache.ids, cache.any_length = ids, any_length
    return cache
