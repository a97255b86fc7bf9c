"""Parameter groups, and runs that end within an epoch."""

from __future__ import annotations

import pytest
import tiny
import torch
from tiny import figures

from trainer import ConfigError, Runtime, parallel
from trainer.config import TrainConfig
from trainer.loop import Run, train
from trainer.optimizers._groups import Group, clip_gradients, for_optimizer, parameter_groups
from trainer.parameter_groups.bn_bias import BNBias
from trainer.parameter_groups.head import Head
from trainer.schedules.constant import Constant
from trainer.schedules.linear import Linear
from trainer.schedules.piecewise_linear import PiecewiseLinear


@pytest.fixture
def runtime(cache_dir) -> Runtime:
    return Runtime(cache_dir=cache_dir)


def steps(run: Run, number: int) -> None:
    """Take the first steps of a run's first epoch."""
    starts = [place * run.config.batch_size for place in range(number)]
    for batch in run.data.batches(0, starts):
        run.learner.train_step(*batch, 0)


def names_of(run: Run, params: list[torch.nn.Parameter]) -> set[str]:
    own = {id(p): name for name, p in run.learner.model.named_parameters()}
    return {own[id(p)] for p in params}


def test_each_parameter_is_in_one_group_with_its_own_numbers(runtime):
    groups = (BNBias(lr=6.4, weight_decay=0.5), Head(lr=0.3))
    run = Run(tiny.config(parameter_groups=groups, weight_decay=0.01), 0, runtime, parallel.Group())
    found = {
        frozenset(names_of(run, group["params"])): (group["lr"], group["weight_decay"])
        for group in run.learner.optimizer.param_groups
    }
    assert found == {
        frozenset({"0.weight", "1.weight"}): (0.1, 0.01),
        frozenset({"1.bias"}): (6.4, 0.5),
        frozenset({"5.weight", "5.bias"}): (0.3, 0.01),
    }


def test_without_weight_decay_on_bn_a_group_may_still_ask_for_it(runtime):
    groups = (BNBias(weight_decay=0.5), Head())
    config = tiny.config(parameter_groups=groups, weight_decay=0.01, no_weight_decay_on_bn=True)
    run = Run(config, 0, runtime, parallel.Group())
    decays = {
        tuple(names_of(run, each.params)): each.weight_decay for each in run.learner.groups if each.params
    }
    assert decays.pop(("0.weight",)) == 0.01
    assert decays.pop(("1.weight",)) == 0.0
    assert decays.pop(("1.bias",)) == 0.5
    assert list(decays.values()) == [0.0]  # the head's


def test_frozen_parameters_are_in_no_group(runtime):
    config = tiny.config(parameter_groups=(BNBias(),))
    model = config.model.build(config.dataset.spec)
    model[1].requires_grad_(False)
    sizes = [len(each.params) for each in parameter_groups(model, config)]
    assert sizes == [3, 0]


def test_the_l2_terms_of_all_groups_are_clipped_with_the_gradients_if_a_config_says_so():
    decayed, plain, unused = (torch.nn.Parameter(torch.tensor([value])) for value in (4.0, 10.0, 7.0))
    groups = [Group([decayed, unused], 0.1, 0.5), Group([plain], 0.1, 0.0), Group([], 0.1, 0.5)]
    found = {}
    for both in (True, False):
        config = tiny.config(gradient_clip=2.5, clip_weight_decay=both)
        decayed.grad, plain.grad = torch.tensor([1.0]), torch.tensor([4.0])
        clip_gradients(torch.nn.ParameterList([decayed, plain, unused]), groups, config)
        left = [group["weight_decay"] for group in for_optimizer(groups, config)]
        found[both] = [decayed.grad.item(), plain.grad.item(), *left]
    # 3 and 4 are 5 long, with the half of 4; 1 and 4 alone are sqrt(17) long
    share = 2.5 / 17**0.5
    assert found[True] == pytest.approx([1.5, 2.0, 0.0, 0.0, 0.0], rel=1e-5)
    assert found[False] == pytest.approx([share, 4 * share, 0.5, 0.0, 0.5], rel=1e-5)
    assert unused.grad is None


def test_groups_follow_the_schedule_from_their_own_peak():
    """airbench94 Muon: all rates fall to 0, the whitening bias's over steps of its own."""
    config = tiny.config(lr=0.24, schedule=Linear(min_factor=0), epochs=4)  # 12 steps
    fast, short = BNBias(lr=0.053), BNBias(lr=0.053, epochs=2, anneal=True)
    assert [config.lr_at(step) for step in (0, 3, 11)] == pytest.approx([0.24, 0.18, 0.02])
    assert [config.lr_at(step, fast) for step in (0, 3, 11)] == pytest.approx([0.053, 0.03975, 0.053 / 12])
    assert [config.lr_at(step, short) for step in (0, 3, 6, 11)] == pytest.approx([0.053, 0.0265, 0.0, 0.0])


def test_a_group_stays_as_it_is_once_its_epochs_are_over(runtime):
    config = tiny.config(parameter_groups=(BNBias(lr=0.5, epochs=0.5),), weight_decay=0.1)
    run = Run(config, 0, runtime, parallel.Group())
    bias, seen = run.learner.model[1].bias, []
    for number in range(3):
        run.learner.model.train()
        steps(run, 1)
        seen.append(bias.clone())
        assert run.learner.step == number + 1
    assert not torch.equal(seen[0], torch.zeros_like(bias))
    assert not torch.equal(seen[1], seen[0])  # half of 3 steps, to the next whole one, are 2
    assert torch.equal(seen[2], seen[1])
    assert not bias.requires_grad
    assert run.learner.num_params == sum(p.numel() for p in run.learner.model.parameters())


def test_a_group_is_frozen_as_if_its_rate_were_zero(runtime):
    """Without weight decay and momentum, no update and an update of nothing are the same."""
    plain = {"optimizer": sgd(), "weight_decay": 0.0, "schedule": Constant()}
    frozen = train(tiny.config(parameter_groups=(BNBias(epochs=1e-9),), **plain), seed=0, runtime=runtime)
    never = train(tiny.config(parameter_groups=(BNBias(lr=1e-30),), **plain), seed=0, runtime=runtime)
    first = frozen.epochs[0].train_loss
    assert first == pytest.approx(never.epochs[0].train_loss, rel=1e-2)
    assert train(tiny.config(**plain), seed=0, runtime=runtime).epochs[0].train_loss != first


def sgd():
    from trainer.optimizers.sgd import SGD

    return SGD(momentum=0, nesterov=False)


def test_groups_that_change_nothing_change_nothing(runtime):
    plain = train(tiny.config(), seed=0, runtime=runtime)
    grouped = train(tiny.config(parameter_groups=(BNBias(), Head())), seed=0, runtime=runtime)
    assert figures(grouped) == figures(plain)


def test_groups_are_written_as_a_mapping_and_leave_no_trace_in_other_configs():
    values = {"model": "resnet", "epochs": 1, "parameter_groups": {"bn_bias": {"lr": 6.4}, "head": True}}
    values["model"] = {"name": "resnet", "depth": 8}
    config = TrainConfig.from_dict(values)
    assert config.canonical()["parameter_groups"] == {"bn_bias": {"lr": 6.4}, "head": {}}
    assert config.flat()["parameter_groups.bn_bias.lr"] == 6.4
    assert "parameter_groups" not in tiny.config().canonical()
    assert TrainConfig.from_dict(config.canonical()) == config


@pytest.mark.parametrize(
    ("groups", "problem"),
    [
        ({"bn_bias": {"anneal": True}}, "parameter_groups.bn_bias.anneal: needs epochs"),
        ({"bn_bias": {"lr": 0}}, "parameter_groups.bn_bias.lr: must be > 0, got 0.0"),
        ({"bn_bais": {}}, "unknown parameter group 'bn_bais'. Did you mean 'bn_bias'?"),
        ({"whitening_bias": {}}, "parameter_groups.whitening_bias: ResNet-8 has no whitening layer"),
    ],
)  # fmt: skip
def test_a_group_that_cannot_be_is_refused(groups, problem):
    values = {"model": {"name": "resnet", "depth": 8}, "epochs": 1, "parameter_groups": groups}
    with pytest.raises(ConfigError) as error:
        TrainConfig.from_dict(values)
    assert problem in str(error.value)


# --- runs that end within an epoch -------------------------------------------------------------


def test_a_fraction_of_an_epoch_ends_at_the_next_whole_step(runtime):
    config = tiny.config(epochs=2.4, schedule=Linear(min_factor=0.2))  # 3 steps an epoch
    assert (config.total_steps, config.num_epochs, config.num_images) == (8, 3, 64)
    assert config.lr_at(4) == pytest.approx(0.1 * 0.6)
    assert config.lr_at(8) == pytest.approx(0.1 * 0.2)
    result = train(config, seed=0, runtime=runtime)
    assert [epoch.epoch for epoch in result.epochs] == [1, 2, 3]
    assert result.epochs[-1].lr == pytest.approx(config.lr_at(7))
    assert result.num_images == 64
    assert result.epochs[-1].test_error is not None


def test_a_partial_epoch_trains_on_the_first_part_of_a_whole_one(runtime):
    same = {"schedule": PiecewiseLinear(knots=((0.0, 1.0), (1.5, 0.5)))}
    part = train(tiny.config(epochs=1.6, **same), seed=0, runtime=runtime)
    whole = train(tiny.config(epochs=2, **same), seed=0, runtime=runtime)
    assert figures(part)["epochs"][0] == figures(whole)["epochs"][0]
    assert part.num_images == 40  # 4.8 steps, to the next whole one
    assert part.epochs[1].train_error != whole.epochs[1].train_error


def test_a_part_of_one_epoch_is_a_run_too(runtime):
    result = train(tiny.config(epochs=0.3), seed=0, runtime=runtime)
    assert (len(result.epochs), result.num_images) == (1, 8)
    assert result.epochs[0].train_error * 8 == pytest.approx(round(result.epochs[0].train_error * 8))


@pytest.mark.parametrize(
    ("epochs", "batch_size", "steps"), [(9.9, 1024, 476), (7.59, 1536, 243), (10, 512, 970), (8, 2000, 200)]
)
def test_the_published_runs_have_the_published_steps(epochs, batch_size, steps):
    values = {"model": {"name": "resnet", "depth": 8}, "dataset": "cifar10"}
    config = TrainConfig.from_dict({**values, "epochs": epochs, "batch_size": batch_size})
    assert config.total_steps == steps


def test_rounding_adds_no_step():
    assert tiny.config().steps_in(1.1 * 10 / 3) == 11  # 11.000000000000002


def test_whole_epochs_stay_whole_numbers():
    ten = tiny.config(epochs=10.0)
    assert ten == tiny.config(epochs=10)
    assert type(ten.epochs) is int
    assert str(ten.canonical()["epochs"]) == "10"


# --- time to train -----------------------------------------------------------------------------


def test_time_to_train_is_training_and_the_last_test(runtime):
    result = train(tiny.config(), seed=0, runtime=runtime)
    assert result.train_seconds < result.time_to_train_seconds < result.train_seconds + 1.0
