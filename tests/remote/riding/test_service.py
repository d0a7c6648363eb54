"""A program's models run on a server, and the program gets what it would have got."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.remote.conftest import VOCABULARY, prompt
from tests.remote.graph.language import language_model as tiny
from torch import distributed, nn

from remora.core.errors import CannotCapture
from remora.remote.client.model import RemoteModel
from remora.remote.client.placed import Placed
from remora.remote.client.server import RemoteServer, connect
from remora.remote.riding.service import Remote
from remora.remote.server.server import Server
from remora.tap.job import Job


@pytest.fixture
def riding(server: Server) -> Iterator[Remote]:
    service = Remote(connect(server.address))
    job = Job(strict=True)
    job.attach(service)
    yield service
    job.detach_all()


@pytest.fixture
def language(riding: Remote, language_model: torch.nn.Module, decoder: Placed) -> Any:
    """The language model, whose step was captured before."""
    model: Any = riding.model(language_model)
    model.graphs.decoder = Placed(decoder.captured, decoder=True)
    return language_model


def layers() -> Any:
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))


def loads(riding: Remote) -> int:
    """How many graphs the server has."""
    return riding.server.counts()["models"]


def test_a_module_runs_there_and_gives_the_same(riding: Remote) -> None:
    model = layers().eval()
    for batch in (1, 2, 5):
        inputs = torch.randn(batch, 4)
        there = model(inputs)
        with torch.no_grad():
            assert torch.equal(there, model[2](model[1](model[0](inputs))))
    assert loads(riding) == 3  # the whole, and both layers that have weights, by themselves


def test_training_stays_here(riding: Remote) -> None:
    model = layers()
    loss = model(torch.randn(3, 4)).sum()
    loss.backward()

    assert loads(riding) == 0


def test_what_has_no_weights_stays_here(riding: Remote) -> None:
    loss = torch.nn.CrossEntropyLoss().eval()
    loss(torch.randn(2, 3), torch.tensor([0, 1]))

    assert loads(riding) == 0


def test_changed_weights_are_not_answered_by_the_old(riding: Remote) -> None:
    model, inputs = layers().eval(), torch.randn(3, 4)
    before = model(inputs)
    with torch.no_grad():
        model[2].bias.add_(1.0)

    assert torch.allclose(model(inputs), before + 1)


def test_weights_that_a_fused_optimizer_changed_are_not_answered_by_the_old(
    riding: Remote,
) -> None:
    """It counts no version, and transformers' Trainer takes it by default."""
    model, inputs = layers(), torch.randn(3, 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    for _ in range(2):
        model.train()
        model(inputs).sum().backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            there = model(inputs)
            with riding.inside():
                assert torch.equal(there, model(inputs))


def test_what_a_rank_evaluates_runs_there(riding: Remote, tmp_path: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/s", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(layers()).eval()
        inputs = torch.randn(3, 4)
        with torch.no_grad():
            there = model(inputs)
            with riding.inside():
                assert torch.equal(there, model(inputs))
        assert loads(riding) == 1
    finally:
        distributed.destroy_process_group()


def test_a_model_that_cannot_be_captured_says_why(riding: Remote) -> None:
    class Draws(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return inputs * self.weight + torch.rand(2)

    with pytest.raises(CannotCapture, match=r"aten.rand.*test_service.py"):
        Draws().eval()(torch.ones(3, 2))


@pytest.mark.parametrize("padded", [False, True])
def test_generate_is_a_session_there(language: Any, riding: Remote, padded: bool) -> None:
    ids, mask = torch.cat([prompt(9), prompt(9, seed=1)]), torch.ones(2, 9, dtype=torch.int64)
    if padded:
        mask[1, :4] = ids[1, :4] = 0
    options = {"attention_mask": mask, "max_new_tokens": 12, "pad_token_id": 0}
    language.generate(ids, **options)
    received = riding.server.counted.bytes_received
    there = language.generate(ids, **options)
    received = riding.server.counted.bytes_received - received

    with riding.inside():
        here = language.generate(ids, **options)
    assert there.tolist() == here.tolist()
    assert received < 2 * 12 * 50 < 2 * 12 * 4 * VOCABULARY  # token ids, not logits


def test_generate_ends_where_it_would_have_ended(language: Any, riding: Remote) -> None:
    with riding.inside():
        free = language.generate(prompt(9), max_new_tokens=12, pad_token_id=0)
    options = {"max_new_tokens": 12, "pad_token_id": 0, "eos_token_id": int(free[0, 14])}
    there = language.generate(prompt(9), **options)

    with riding.inside():
        assert there.tolist() == language.generate(prompt(9), **options).tolist()


def test_a_drawn_generate_draws_here_and_keeps_its_cache_there(
    language: Any, riding: Remote
) -> None:
    options = {"max_new_tokens": 8, "do_sample": True, "top_k": 5, "pad_token_id": 0}
    torch.manual_seed(1)
    there = language.generate(prompt(9), **options)

    torch.manual_seed(1)
    with riding.inside():
        assert there.tolist() == language.generate(prompt(9), **options).tolist()


@pytest.mark.parametrize("rows", [1, 2])
def test_beams_take_each_others_places_there(language: Any, riding: Remote, rows: int) -> None:
    ids = torch.cat([prompt(9, seed=row) for row in range(rows)])
    options = {"max_new_tokens": 10, "num_beams": 3, "pad_token_id": 0}
    there = language.generate(ids, **options)

    with riding.inside():
        assert there.tolist() == language.generate(ids, **options).tolist()


def test_candidates_are_judged_behind_all_that_was_read(language: Any, riding: Remote) -> None:
    """GIVEN an assistant that says other things than the model THEN what it drafts is cropped."""
    torch.manual_seed(5)
    assistant = copy.deepcopy(language)
    for parameter in assistant.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    options = {"max_new_tokens": 10, "pad_token_id": 0, "assistant_model": assistant}
    there = language.generate(prompt(9), **options)

    with riding.inside():
        assert there.tolist() == language.generate(prompt(9), **options).tolist()


@pytest.mark.parametrize("crop", [0, -3, 6])
def test_a_cropped_text_goes_on(language: Any, riding: Remote, crop: int) -> None:
    def behind(crop: int) -> torch.Tensor:
        cache = language(prompt(9), use_cache=True).past_key_values
        first = language(prompt(1, seed=3), past_key_values=cache).past_key_values
        first.crop(crop)
        logits: torch.Tensor = language(prompt(1, seed=4), past_key_values=first).logits
        return logits

    there = behind(crop)
    with torch.no_grad(), riding.inside():
        here = behind(min(crop, crop - 10 if crop > 0 else crop))
    assert torch.allclose(there, here, atol=1e-4)


def test_what_only_the_whole_model_gives_comes_with_a_text_of_one_call(
    language: Any, riding: Remote
) -> None:
    there = language(prompt(9), output_hidden_states=True)
    with torch.no_grad(), riding.inside():
        here = language(prompt(9), output_hidden_states=True)
    for left, right in zip(there.hidden_states, here.hidden_states, strict=True):
        assert torch.allclose(left, right, atol=1e-5)
    with pytest.raises(CannotCapture, match="called with output_hidden_states"):
        language(prompt(1), past_key_values=there.past_key_values, output_hidden_states=True)


def test_embeddings_instead_of_tokens_are_refused_in_words(language: Any) -> None:
    with pytest.raises(CannotCapture, match="called with no token ids"):
        language(inputs_embeds=torch.randn(1, 3, 32), use_cache=True)


def test_a_compiled_model_runs_there(riding: Remote) -> None:
    model, inputs = layers().eval(), torch.randn(3, 4)
    with torch.no_grad():
        there = torch.compile(model, backend="eager")(inputs)  # type: ignore[no-untyped-call]
        with riding.inside():
            assert torch.allclose(there, model(inputs))
    assert loads(riding) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("beams", [1, 2])
def test_a_model_without_sessions_is_read_anew_and_says_so(
    riding: Remote, capsys: pytest.CaptureFixture[str], beams: int
) -> None:
    model: Any = tiny("t5")
    ids, options = prompt(9), {"max_new_tokens": 6, "num_beams": beams, "pad_token_id": 0}
    there = model.generate(ids, **options)

    with riding.inside():
        assert there.tolist() == model.generate(ids, **options).tolist()
    assert capsys.readouterr().err.count("the server reads its whole text for every token") == 1


@pytest.mark.slow
def test_a_model_of_one_length_is_not_captured_for_every_token(riding: Remote) -> None:
    model: Any = tiny("mamba")
    ids = prompt(9)
    with torch.no_grad(), riding.inside():
        here = model(ids)
    assert torch.allclose(model(ids).logits, here.logits, atol=1e-4)
    with pytest.raises(CannotCapture, match="MambaForCausalLM decides by the length of its text"):
        model.generate(ids, max_new_tokens=4, pad_token_id=0)


def test_a_cache_that_was_filled_here_is_refused(language: Any, riding: Remote) -> None:
    with torch.no_grad(), riding.inside():
        cache = language(prompt(3), use_cache=True).past_key_values
    with pytest.raises(CannotCapture, match="a DynamicCache that was filled here"):
        language(prompt(1), past_key_values=cache)


def test_nothing_is_left_behind(server: Server) -> None:
    here = torch.nn.Module.__call__
    job = Job(strict=True)
    service = Remote(connect(server.address))
    job.attach(service)
    assert torch.nn.Module.__call__ is not here
    job.detach_all()

    assert torch.nn.Module.__call__ is here


def test_a_model_may_be_loaded_by_hand(remote: RemoteServer) -> None:
    model = layers().eval()
    there: RemoteModel = remote.load(model)
    inputs = torch.randn(3, 4)

    with torch.no_grad():
        assert torch.equal(there(inputs), model(inputs))
