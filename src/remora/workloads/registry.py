"""Every workload by name: ours, and those that installed packages add.

A package adds workloads through the entry-point group ``remora.workloads``: the entry's name is the
workload's, and it loads to a :class:`Workload`, or to a class or function that makes one when
called without arguments. A broken entry spoils nothing but itself: see :func:`broken`.

Nothing here builds a model or imports transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from remora.core.errors import BadValue, Unavailable
from remora.core.plugins import Registry
from remora.workloads import device_like, micro
from remora.workloads.contract import Mode, Scale, Workload
from remora.workloads.graph import gat, gcn
from remora.workloads.language import (
    bert,
    bert_classification,
    bloom,
    gpt2,
    llama,
    opt,
    pegasus_x,
    t5,
    word_lm,
)
from remora.workloads.language import transformer_xl_training as transformer_xl
from remora.workloads.multimodal import clip, whisper
from remora.workloads.vision import dcgan, mlp, mnist, pointnet, resnet, siamese, vae, vgg, vit

GROUP = "remora.workloads"

_VISION = (vgg, resnet, mnist, mlp, dcgan, siamese, vae, vit, pointnet)
_GRAPH = (gcn, gat)
_LANGUAGE = (
    *(word_lm, transformer_xl, bert, bert_classification, t5, pegasus_x),
    *(gpt2, opt, bloom, llama),
)
_MULTIMODAL = (clip, whisper)


@dataclass(frozen=True)
class Description:
    """A row of the table of workloads."""

    name: str
    model: str
    mode: Mode
    sizes: Mapping[str, int | str]
    source: str
    workload: Workload
    scale: Scale

    @property
    def parameters(self) -> int:
        """How many parameters: worked out when asked for, since that builds a model's shapes."""
        return self.workload.footprint(self.scale).parameters


def names() -> list[str]:
    """The names of all workloads that can be had, sorted."""
    return sorted(set(_registry().names()) - set(broken()))


def get(name: str) -> Workload:
    """The workload called ``name``; a bare model name means its ``train`` mode, or its only one.

    Raises:
        UnknownName: there is none; the message lists the valid names.
        Unavailable: an installed package promises it, but it cannot be loaded.
    """
    if name not in _registry().names():
        modes = [known for known in names() if _load(known).model == name]
        default = f"{name}-train"
        if len(modes) == 1 or default in modes:
            return _load(default if default in modes else modes[0])
    return _load(name)


def broken() -> dict[str, str]:
    """The names that installed packages promise but cannot deliver, each with the reason."""
    return dict(_broken())


def describe(scale: Scale) -> list[Description]:
    """Every workload at ``scale``, by name."""
    return [_description(get(name), scale) for name in names()]


def forget() -> None:
    """Look for installed packages anew at the next question."""
    for known in (_registry, _load, _broken):
        known.cache_clear()


def _description(workload: Workload, scale: Scale) -> Description:
    return Description(
        name=workload.name,
        model=workload.model,
        mode=workload.mode,
        sizes=workload.sizes(scale),
        source=workload.source,
        workload=workload,
        scale=scale,
    )


@lru_cache(maxsize=1)
def _registry() -> Registry[Workload]:
    families = (*_VISION, *_GRAPH, *_LANGUAGE, *_MULTIMODAL, micro, device_like)
    ours = {workload.name: workload for family in families for workload in family.workloads()}
    return Registry("workload", GROUP, ours, _accept)


@cache
def _load(name: str) -> Workload:
    return _registry().get(name)


@lru_cache(maxsize=1)
def _broken() -> dict[str, str]:
    failed = {}
    for name in _registry().names():
        try:
            _load(name)
        except Unavailable as error:
            failed[name] = str(error)
    return failed


def _accept(name: str, loaded: object) -> Workload:
    made = loaded() if callable(loaded) and not isinstance(loaded, Workload) else loaded
    if not isinstance(made, Workload) or made.name != name:
        raise BadValue(f"the entry point makes no Workload whose name is {name!r}")
    return made
