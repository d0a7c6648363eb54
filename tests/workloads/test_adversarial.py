"""Two networks with two optimizers: each trains its own, and both are in the state."""

from __future__ import annotations

import torch

from remora.workloads import registry

CPU = torch.device("cpu")


def test_each_optimizer_trains_its_own_network() -> None:
    session = registry.get("dcgan-train").build("quick", CPU)
    stepped: list[str] = []
    before = {name: one.detach().clone() for name, one in session.model.named_parameters()}
    for name, optimizer in session.optimizers.items():
        own = {
            key.partition(".")[0]
            for key, one in session.model.named_parameters()
            for group in optimizer.param_groups
            if any(one is held for held in group["params"])
        }
        assert own == {name}
        optimizer.register_step_post_hook(lambda *_, name=name: stepped.append(name))

    outcome = session.step()

    assert stepped == ["discriminator", "generator"]
    assert outcome.tensor.shape == (2,)
    changed = [
        name for name, one in session.model.named_parameters() if (one != before[name]).any()
    ]
    assert changed == list(before)


def test_the_state_holds_both_optimizers() -> None:
    session = registry.get("dcgan-train").build("quick", CPU)
    session.step()
    state = session.state()
    assert set(state) == {"model", "discriminator", "generator", "steps"}
    fresh = registry.get("dcgan-train").build("quick", CPU)
    fresh.load_state(state)
    for name, optimizer in fresh.optimizers.items():
        restored = optimizer.state_dict()["state"]
        assert restored.keys() == state[name]["state"].keys() != set()
