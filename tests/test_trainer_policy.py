"""Augmentation policies: operations against PIL, laws of draws, schedules, logs, pipeline."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats
from sklearn.datasets import load_sample_images
from torchvision.transforms import AutoAugment as TorchvisionAutoAugment
from torchvision.transforms import AutoAugmentPolicy, InterpolationMode, TrivialAugmentWide, autoaugment
from torchvision.transforms import RandAugment as TorchvisionRandAugment

from trainer import ConfigError, TrainConfig
from trainer.augmentations.auto_augment import AutoAugment
from trainer.augmentations.policy import Policy, level_value, operations, random_policy
from trainer.augmentations.policy.actions import ActionAugmentation
from trainer.augmentations.policy.schedules import (
    OPERATIONS,
    LogError,
    from_vector,
    piece_at,
    policy_text,
    read_log,
    read_policy,
    to_vector,
)
from trainer.augmentations.randaugment import RandAugment
from trainer.augmentations.random_crop import RandomCrop
from trainer.augmentations.trivial_augment import TrivialAugment
from trainer.data.pipeline import Pipeline
from trainer.datasets import datasets

CPU = torch.device("cpu")
SIGNED = ("Rotate", "TranslateX", "TranslateY", "ShearX", "ShearY")
Shape = tuple[int, int, int, int]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def policy(*schedule: tuple[int, str], **options: Any) -> Policy:
    return Policy(schedule=schedule, **options)


def drawn(options: ActionAugmentation, n: int, size: int = 32, seed: int = 0) -> torch.Tensor:
    return options.draw((n, 3, size, size), generator(seed))


def photos(n: int, size: int = 32) -> torch.Tensor:
    """Return (n, 3, size, size) parts of real photographs, some of them dark, flat or of a single colour."""
    parts, side = [], 4 * size
    for photo in load_sample_images().images:
        for top, left in itertools.product(range(0, 427 - side, 40), range(0, 640 - side, 40)):
            part = Image.fromarray(photo[top : top + side, left : left + side]).resize((size, size))
            parts.append(np.asarray(part))
    chosen = np.random.default_rng(0).permutation(len(parts))[: n - 3]
    pixels = torch.from_numpy(np.stack([parts[i] for i in chosen])).permute(0, 3, 1, 2)
    flat = torch.tensor([0, 7, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, size, size).clone()
    flat[1, 0, 0, 0] = 9
    return torch.cat([pixels, flat]).contiguous()


# --- the tables of levels ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "values"),
    [
        ("Rotate", [0, 3, 6, 9, 12, 15, 18, 21, 24, 27]),
        ("ShearX ShearY", [0, 0.03, 0.06, 0.09, 0.12, 0.15, 0.18, 0.21, 0.24, 0.27]),
        ("TranslateX TranslateY", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (
            "Brightness Color Contrast Sharpness",
            [0.1, 0.28, 0.46, 0.64, 0.82, 1, 1.18, 1.36, 1.54, 1.72],
        ),
        ("Posterize", [4, 4, 4, 3, 3, 2, 2, 2, 1, 1]),
        ("Solarize", [256, 231, 205, 180, 154, 128, 103, 77, 52, 26]),
        ("Cutout", [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]),
        ("Invert Equalize AutoContrast", [0] * 10),
    ],
)
def test_levels(names, values):
    for name in names.split():
        assert [level_value(name, level) for level in range(10)] == pytest.approx(values, abs=1e-12)


# --- operations against PIL ----------------------------------------------------------------------


def by_pil(image: Image.Image, name: str, value: float, centre: tuple[int, int]) -> Image.Image:
    """Apply one operation to an RGBA image, whose alpha is 0 where it was filled."""
    affine = {
        "ShearX": (1, value, 0, 0, 1, 0),
        "ShearY": (1, 0, 0, value, 1, 0),
        "TranslateX": (1, 0, value, 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, value),
    }
    of_rgb = {
        "AutoContrast": ImageOps.autocontrast,
        "Equalize": ImageOps.equalize,
        "Invert": ImageOps.invert,
        "Posterize": lambda rgb: ImageOps.posterize(rgb, int(value)),
        "Solarize": lambda rgb: ImageOps.solarize(rgb, value),
    }
    if name == "Rotate":
        return image.rotate(value)
    if name in affine:
        return image.transform(image.size, Image.Transform.AFFINE, affine[name])
    if name in of_rgb:
        return of_rgb[name](image.convert("RGB")).convert("RGBA")
    if name == "Cutout":
        pixels, (row, column), half = np.array(image), centre, int(value) // 2
        pixels[max(row - half, 0) : row + half, max(column - half, 0) : column + half] = (125, 122, 113, 0)
        return Image.fromarray(pixels)
    return getattr(ImageEnhance, name)(image).enhance(value)


def all_by_pil(
    images: torch.Tensor, actions: list[list[tuple[str, float]]], centres: torch.Tensor
) -> torch.Tensor:
    """Return (N, 4, H, W) uint8, the last channel 0 or 1."""
    found = []
    for image, wanted, places in zip(images, actions, centres.tolist(), strict=True):
        changed = Image.fromarray(image.permute(1, 2, 0).numpy()).convert("RGBA")
        for (name, value), (row, column) in zip(wanted, places, strict=True):
            changed = by_pil(changed, name, value, (row, column))
        found.append(np.asarray(changed))
    pixels = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).contiguous()
    pixels[:, 3] = pixels[:, 3] > 0
    return pixels


EVERY = tuple(
    (name, sign * level_value(name, level))
    for name in OPERATIONS
    for level in range(10)
    for sign in ((1, -1) if name in SIGNED else (1,))
)
"""All 200 actions of the policies."""


@pytest.fixture(params=[True, False], ids=["by index", "by mask"])
def may_look(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test as on a CPU, and as on a GPU."""
    monkeypatch.setattr(operations, "may_look", lambda device: request.param)


@pytest.mark.parametrize("size", [32, 13])
def test_each_operation_at_each_level_is_pils(size, may_look):
    images = photos(9, size)
    known = operations.tables(EVERY, 3, size, size)
    centres = torch.randint(size, (len(EVERY), 1, 2), generator=generator())
    every = torch.arange(len(EVERY))[:, None]
    for image in images.split(1):
        batch = image.expand(len(EVERY), -1, -1, -1)
        found = operations.apply(batch, every, centres, known, masked=True)
        expected = all_by_pil(batch, [[action] for action in EVERY], centres)
        wrong = {EVERY[i] for i in (found != expected).flatten(1).any(1).nonzero().flatten()}
        assert not wrong


def test_two_operations_in_turn_are_pils(may_look):
    """What the first one fills is masked or black for the second: all 15 x 15 pairs, random levels."""
    pairs = list(itertools.product(OPERATIONS, repeat=2)) * 2
    rng = np.random.default_rng(0)
    of_name = {name: [i for i, (n, _) in enumerate(EVERY) if n == name] for name in OPERATIONS}
    chosen = [[int(rng.choice(of_name[name])) for name in pair] for pair in pairs]
    images = photos(45).repeat(10, 1, 1, 1)
    centres = torch.randint(32, (len(pairs), 2, 2), generator=generator())
    known = operations.tables(EVERY, 3, 32, 32)
    found = operations.apply(images, torch.tensor(chosen), centres, known, masked=True)
    expected = all_by_pil(images, [[EVERY[i] for i in row] for row in chosen], centres)
    differ = (found != expected).flatten(1).any(1).nonzero().flatten()
    wrong = {tuple(EVERY[j] for j in chosen[i]) for i in differ}
    assert not wrong


def test_the_mask_is_left_out_where_nobody_asks(may_look):
    images = photos(40)
    actions = torch.randint(len(EVERY), (40, 2), generator=generator())
    centres = torch.zeros(40, 2, 2, dtype=torch.int64)
    known = operations.tables(EVERY, 3, 32, 32)
    with_mask = operations.apply(images, actions, centres, known, masked=True)
    assert torch.equal(operations.apply(images, actions, centres, known, masked=False), with_mask[:, :3])


def test_grey_images_are_colour_images_with_equal_channels(may_look):
    grey = photos(200)[:, :1]
    actions = torch.arange(200)[:, None]
    without_cutout = [i for i, (name, _) in enumerate(EVERY) if name != "Cutout"]  # whose fill is no grey
    centres = torch.full((200, 1, 2), 16)
    known, known_colour = (operations.tables(EVERY, channels, 32, 32) for channels in (1, 3))
    found = operations.apply(grey, actions, centres, known, masked=True)
    colour = operations.apply(grey.repeat(1, 3, 1, 1), actions, centres, known_colour, masked=True)
    assert torch.equal(found[without_cutout], colour[without_cutout][:, [0, 3]])
    cut = found[EVERY.index(("Cutout", 10))]
    assert set(cut[0, 11:21, 11:21].unique().tolist()) == {122}  # 0.299 125 + 0.587 122 + 0.114 113, rounded
    assert not cut[1, 11:21, 11:21].any()


@pytest.mark.gpu
def test_gpu_the_same_pixels_as_on_a_cpu():
    images = photos(200)
    actions, centres = torch.arange(200)[:, None], torch.randint(32, (200, 1, 2), generator=generator())
    actions = torch.cat([actions, actions.flip(0)], 1)
    centres = centres.repeat(1, 2, 1)
    known = operations.tables(EVERY, 3, 32, 32)
    there = [each.to("cuda") for each in (images, actions, centres)]
    found = operations.apply(*there, known.to(torch.device("cuda")), masked=True)
    assert torch.equal(found.cpu(), operations.apply(images, actions, centres, known, masked=True))


# --- what is drawn -------------------------------------------------------------------------------

N = 40_000


def names_of(options: ActionAugmentation, draws: torch.Tensor) -> list[tuple[str, ...]]:
    """Return the names of the operations that each image gets, in turn."""
    actions = options.actions(32, 32)
    return [tuple(actions[i][0] for i in row if i) for row in draws[..., 0].tolist()]


def test_each_image_has_a_budget_of_its_own():
    every = ", ".join(f"{name} 1 3" for name in OPERATIONS for _ in range(2))
    options = policy((1, every))
    counts = Counter(len(names) for names in names_of(options, drawn(options, N)))
    assert stats.chisquare([counts[0], counts[1], counts[2]], [0.2 * N, 0.3 * N, 0.5 * N]).pvalue > 0.001


def law(entries: dict[str, float]) -> dict[tuple[str, ...], float]:
    """Return the probability of each outcome, by walking through all orders as the authors' code does."""
    outcomes: Counter[tuple[str, ...]] = Counter()
    orders = list(itertools.permutations(entries))
    for budget, share in enumerate((0.2, 0.3, 0.5)):
        for order in orders:
            for fires in itertools.product((True, False), repeat=len(order)):
                chance = share / len(orders)
                for name, fired in zip(order, fires, strict=True):
                    chance *= entries[name] if fired else 1 - entries[name]
                done = [name for name, fired in zip(order, fires, strict=True) if fired]
                outcomes[tuple(done[:budget])] += chance
    return {outcome: chance for outcome, chance in outcomes.items() if chance > 0}


@pytest.mark.parametrize(
    "entries",
    [
        {"Rotate": 0.3},
        {"Rotate": 0.3, "Invert": 1.0},
        {"Rotate": 0.3, "Invert": 1.0, "Color": 0.1, "Cutout": 0.7},
        {"Rotate": 0.3, "Invert": 0.0, "Color": 0.5},
    ],
)
def test_operations_fire_with_their_probabilities_in_a_random_order(entries):
    options = policy((1, ", ".join(f"{name} {chance:g} 3" for name, chance in entries.items())))
    counts, expected = Counter(names_of(options, drawn(options, N))), law(entries)
    assert counts.keys() <= expected.keys()
    assert (
        stats.chisquare([counts[key] for key in expected], [N * p for p in expected.values()]).pvalue > 0.001
    )


def test_both_copies_of_an_operation_can_fire_and_what_changes_nothing_counts():
    options = policy((1, "Color 1 5, Color 1 3"))  # level 5 is the identity
    counts = Counter(tuple(row) for row in drawn(options, N)[..., 0].tolist())
    assert len(counts) == 1 + 2 * 2 + 8  # none; either with two signs that are alike; both in either order


@pytest.mark.parametrize("name", SIGNED)
def test_signs_are_even(name):
    options = policy((1, f"{name} 1 4"))
    actions, draws = options.actions(32, 32), drawn(options, N)[:, 0, 0]
    values = Counter(actions[i][1] for i in draws.tolist() if i)
    low, high = sorted(values)
    assert low == -high
    assert stats.binomtest(values[low], values.total()).pvalue > 0.001


def test_the_centre_of_a_cutout_is_any_pixel():
    draws = policy((1, "Cutout 1 3")).draw((N, 3, 4, 6), generator())
    places = Counter(map(tuple, draws[:, 0, 1:].tolist()))
    assert len(places) == 24
    assert stats.chisquare(list(places.values())).pvalue > 0.001


def test_the_empty_policy_changes_nothing():
    images = photos(50)
    for text in ("", "Invert 0 3, Rotate 0 9"):
        options = policy((1, text))
        changed = options.apply(images, drawn(options, 50))
        assert torch.equal(changed[:, :3], images)
        assert changed[:, 3].all()


# --- in the pipeline -------------------------------------------------------------------------------

SPEC = datasets.get("cifar10")().spec


def augmented(options: Policy | tuple[Any, ...], pixels: torch.Tensor) -> torch.Tensor:
    chosen = options if isinstance(options, tuple) else (options,)
    return Pipeline(SPEC, chosen, CPU).augment(pixels, generator(), torch.arange(len(pixels)), 0)


def certain(draws: list[tuple[str, float]]) -> Policy:
    """Return a policy that gives each image just these operations."""

    class Certain(Policy):
        def choose(self, shape: Shape, generator: torch.Generator, *choices: torch.Tensor) -> torch.Tensor:
            actions = [self.actions(32, 32).index(action) for action in draws]
            return torch.tensor([[[action, 16, 16] for action in actions]]).expand(shape[0], -1, -1)

    return Certain(schedule=((1, ""),))


def test_what_is_filled_becomes_the_mean_colour():
    white = torch.full((8, 3, 32, 32), 255, dtype=torch.uint8)
    moved = augmented(certain([("TranslateX", 5), ("Cutout", 4)]), white)
    assert (moved[..., 27:] == 0).all()
    assert (moved[:, :, 14:18, 14:18] == 0).all()
    bright = (1 - torch.tensor(SPEC.mean)) / torch.tensor(SPEC.std)
    torch.testing.assert_close(moved[0, :, 0, 0], bright)
    assert (moved != 0).sum() == 8 * 3 * (32 * 27 - 16)


def test_what_is_filled_first_and_inverted_then_is_white():
    black = torch.zeros(8, 3, 32, 32, dtype=torch.uint8)
    found = augmented(certain([("TranslateX", 5), ("Invert", 0)]), black)
    bright = ((1 - torch.tensor(SPEC.mean)) / torch.tensor(SPEC.std)).view(3, 1, 1).expand(3, 32, 32)
    torch.testing.assert_close(found[0], bright)


def test_a_crop_after_a_policy_is_surrounded_by_the_mean_colour():
    white = torch.full((64, 3, 32, 32), 255, dtype=torch.uint8)
    found = augmented((policy((1, "")), RandomCrop(padding=4)), white)
    assert found[:, 0].unique().tolist() == pytest.approx([0, (1 - SPEC.mean[0]) / SPEC.std[0]])


def inverted(options: Policy, epoch: int, epochs: int, seed: int = 0) -> float:
    """Return the share of images that are inverted."""
    black = torch.zeros(2000, 3, 32, 32, dtype=torch.uint8)[..., :4, :4].contiguous()
    pipeline = Pipeline(dataclasses.replace(SPEC, image_size=4), (options,), CPU, seed, epochs)
    found = pipeline.augment(black, generator(), torch.arange(2000), epoch)
    return (found[:, 0, 0, 0] > 0).float().mean().item()


def test_each_epoch_has_its_policy():
    schedule = policy((2, ""), (1, "Invert 1 0"), (1, "Invert 0.5 0"))
    shares = [inverted(schedule, epoch, 8) for epoch in range(8)]
    assert shares == pytest.approx([0, 0, 0, 0, 0.8, 0.8, 0.4, 0.4], abs=0.05)


def test_one_pipeline_changes_its_policy_between_epochs():
    pixels, places = torch.zeros(50, 3, 32, 32, dtype=torch.uint8), torch.arange(50)
    pipeline = Pipeline(SPEC, (policy((1, ""), (1, "Invert 1 0")),), CPU, epochs=2)
    changed = [(pipeline.augment(pixels, generator(), places, epoch) > 0).any().item() for epoch in (0, 1, 0)]
    assert changed == [False, True, False]


def test_flattened_each_image_has_the_policy_of_a_random_epoch():
    schedule = policy((2, ""), (1, "Invert 1 0"), (1, "Invert 0.5 0"), flattened=True)
    share = 0.8 * (1 + 0.5) / 4
    assert [inverted(schedule, epoch, 8) for epoch in (0, 7)] == pytest.approx([share] * 2, abs=0.05)


def test_a_random_policy_is_the_trials_own_and_the_same_in_all_epochs():
    options = policy((5, "random"))
    texts = {
        seed: {options.of_epoch(epoch, 10, seed).schedule[0][1] for epoch in range(10)} for seed in range(3)
    }
    assert all(len(found) == 1 for found in texts.values())
    assert len(set.union(*texts.values())) == 3
    vectors = np.array([to_vector(random_policy(seed)) for seed in range(400)])
    assert set(vectors[:, ::2].ravel().tolist()) == set(range(11))
    assert set(vectors[:, 1::2].ravel().tolist()) == set(range(10))
    assert np.abs(vectors.mean(0)[::2] - 5).max() < 1
    assert np.abs(vectors.mean(0)[1::2] - 4.5).max() < 1


def config(dataset: str = "cifar10", **augmentation: Any) -> TrainConfig:
    model = {"name": "resnet", "depth": 8}
    values = {"model": model, "dataset": dataset, "epochs": 1, "augmentation": augmentation}
    return TrainConfig.from_dict(values)


def test_only_one_policy_at_a_time_and_only_on_grey_or_colour_images():
    assert config("mnist", randaugment=True).augmentation == (RandAugment(),)
    with pytest.raises(ConfigError, match="policy: cannot be combined with randaugment"):
        config(policy={"schedule": [[1, ""]]}, randaugment=True)
    with pytest.raises(ConfigError, match="images of 1 or 3 channels, got 2"):
        RandAugment().check(dataclasses.replace(SPEC, channels=2))


# --- policies and schedules as texts -----------------------------------------------------------------


def test_one_text_for_each_policy():
    text = "ShearX 1.0 2,Rotate .1 4, Invert 0 0,  Rotate 0.30 6, Color 0 7"
    options = policy((3, text), (1, "  "), (2, "random"))
    assert options.schedule == (
        (3, "Rotate 0.1 4, Rotate 0.3 6, Color 0 7, ShearX 1 2"),
        (1, ""),
        (2, "random"),
    )
    assert policy(*options.schedule) == options
    assert policy_text(read_policy(options.schedule[0][1])) == options.schedule[0][1]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ([], "must have a policy"),
        ([[0, ""]], "policy 1 must last >= 1 epochs, got 0"),
        ([[1, ""], [1, "Rotat 0.1 2"]], "policy 2: unknown operation 'Rotat'. Did you mean 'Rotate'?"),
        ([[1, "rotate 0.1 2"]], "policy 1: unknown operation 'rotate'. Did you mean 'Rotate'?"),
        ([[1, "Rotate 0.1"]], "'Rotate 0.1' must be an operation, a probability and a level: Rotate 0.3 6"),
        ([[1, "Rotate 0.1 2,"]], "'' must be an operation, a probability and a level"),
        ([[1, "Rotate 0.15 2"]], "the probability of Rotate must be 0, 0.1 ... 0.9 or 1, got 0.15"),
        ([[1, "Rotate 1.1 2"]], "the probability of Rotate must be 0, 0.1 ... 0.9 or 1, got 1.1"),
        ([[1, "Rotate 1 10"]], "the level of Rotate must be a whole number in 0..9, got 10"),
        ([[1, "Rotate 1 1, Rotate 1 2, Rotate 1 3"]], "Rotate appears 3 times; the most is 2"),
        ([[1_000_001, ""]], "is longer than 1000000 epochs"),
        ("a.yaml", "must be a list"),
        ([[1, ["Rotate", 1, 2]]], "must be text"),
    ],
)
def test_what_is_no_schedule_is_refused(schedule, message):
    with pytest.raises(ConfigError) as caught:
        config(policy={"schedule": schedule})
    assert caught.value.key.startswith("augmentation.policy.schedule")
    assert message in caught.value.problem


def test_vectors_of_60_numbers():
    first, second = [0] * 30, [0] * 30
    first[0:2], first[28:30], second[0:2] = [3, 6], [10, 0], [1, 4]  # Rotate; Contrast is the last operation
    text = from_vector([*first, *second])
    assert text == "Rotate 0.3 6, Rotate 0.1 4, Contrast 1 0"
    assert to_vector(text) == [*first, *second]
    assert from_vector([0] * 60) == ""
    for wrong in ([0] * 59, [11, *[0] * 59], [0, 10, *[0] * 58], [-1, *[0] * 59]):
        with pytest.raises(ValueError, match=r"60 numbers|must be in 0\.\.10 for the probability"):
            from_vector(wrong)


def lengths(schedule: Any, epochs: int, *, compat: bool = False) -> list[int]:
    pieces = Counter(piece_at(schedule, epoch, epochs, compat=compat) for epoch in range(epochs))
    return [pieces[i] for i in range(len(schedule))]


RCIFAR10 = [12, 22, 20, 20, 1, 6, 3, 27, 6, 21, 6, 9, 7, 17, 6, 12, 5]
RSVHN = [9, 15, 6, 8, 7, 24, 6, 25, 4, 4, 39, 6, 6, 1]


@pytest.mark.parametrize("compat", [False, True])
def test_a_schedule_is_stretched_exactly_by_whole_numbers(compat):
    schedule = [(n, "") for n in RCIFAR10]
    assert lengths(schedule, 200, compat=compat) == RCIFAR10
    assert lengths(schedule, 1800, compat=compat) == [9 * n for n in RCIFAR10]


@pytest.mark.parametrize(
    ("pieces", "epochs", "filler"), [(RCIFAR10, 300, 4), (RSVHN, 1800, 5), (RCIFAR10, 70, 5), (RSVHN, 56, 5)]
)
def test_compat_rounds_down_and_fills_up_with_the_last_policy(pieces, epochs, filler):
    found = lengths([(n, "") for n in pieces], epochs, compat=True)
    rounded = [int(n * epochs / sum(pieces)) for n in pieces]
    assert found == [*rounded[:-1], rounded[-1] + filler]
    assert sum(rounded) == epochs - filler


def test_stretched_exactly_each_policy_begins_where_it_should():
    schedule = [(n, "") for n in RCIFAR10]
    for epochs in (70, 300, 450):
        starts = [sum(lengths(schedule, epochs)[:i]) for i in range(len(RCIFAR10))]
        exact = [sum(RCIFAR10[:i]) * epochs / 200 for i in range(len(RCIFAR10))]
        assert all(0 <= start - true < 1 for start, true in zip(starts, exact, strict=True))


# --- logs --------------------------------------------------------------------------------------------


def vector(tenths: int) -> list[int]:
    return [tenths, 1] + [0] * 58


def line(receiver: str, donor: str, epoch: int, before: Any, after: Any) -> str:
    return json.dumps([receiver, donor, epoch + 1, epoch, before, after])


def test_a_log_of_the_original():
    """A list as in old logs, a dict as in new ones, and a literal of Python with numbers of NumPy."""
    log = [
        line("2", "3", 5, vector(1), vector(2)),  # of a member that was replaced: not the donor below
        line("7", "4", 9, vector(3), vector(4)),
        line(
            "1@perturbed[x]",
            "7",
            12,
            {"lr": 0.1, "hp_policy": vector(4)},
            {"lr": 0.1, "hp_policy": vector(5)},
        ),
        repr(["0", "1", 13, 12, vector(5), vector(6)]),
        repr(["6", "0", 20, 20, vector(6), vector(7)]).replace(" 20,", " np.int64(20),"),
    ]
    assert read_log("\n".join([*log, ""]), 30) == (
        (9, "Rotate 0.3 1"),
        (3, "Rotate 0.4 1"),
        (8, "Rotate 0.6 1"),  # between them one of 0 epochs
        (10, "Rotate 0.7 1"),
    )
    assert read_log("", 30, initial="Color 1 2") == ((30, "Color 1 2"),)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("garbage", "line 2: is neither JSON nor a list as Python writes it"),
        ("[" * 50_000, "line 2: is neither JSON nor a list as Python writes it"),
        ("__import__('os').system('false')", "line 2: is neither JSON nor a list as Python writes it"),
        ("[1, 2, 3]", "line 2: must be a list of 6"),
        (line("1", "7", 12, vector(4), vector(11)), "line 2: Rotate has 11 and 1; must be in 0..10"),
        (line("1", "7", 12, vector(4), [1, 2]), "line 2: a policy has 60 numbers, got 2"),
        (
            line("1", "7", 12, vector(4), {"lr": 1}),
            "line 2: a policy must be a list of whole numbers, got {'lr'",
        ),
        (
            line("1", "7", 2, vector(4), vector(5)),
            "line 2: the donor's epoch 2 is before 9, where its policy",
        ),
        (line("1", "7", 31, vector(4), vector(5)), "line 2: the end of the search, 30 is before 31"),
        (
            json.dumps(["1", "7", 1, "x", [], []]),
            "line 2: the epoch of the donor must be a whole number in 0..1000000",
        ),
        (
            json.dumps(["1", "7", 1, 1e300, [], []]),
            "line 2: the epoch of the donor must be a whole number in",
        ),
        ("x" * 200_000, "line 2: is longer than 100000 characters"),
    ],
)
def test_a_bad_log_is_refused(bad, message):
    log = "\n".join([line("7", "4", 9, vector(3), vector(4)), bad])
    with pytest.raises(LogError) as caught:
        read_log(log, 30)
    assert str(caught.value).startswith(message)


# --- the policies of torchvision -----------------------------------------------------------------------


def by_torchvision(pixels: torch.Tensor, name: str, value: float) -> torch.Tensor:
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    found = autoaugment._apply_op(image, name, value, InterpolationMode.NEAREST, None)
    return torch.from_numpy(np.array(found)).permute(2, 0, 1)


def meant(name: str, value: float) -> float:
    """Return the magnitude, as torchvision has it, of an action."""
    if name in ("TranslateX", "TranslateY"):
        return -value  # torchvision's direction
    return value - 1 if name in ("Brightness", "Color", "Contrast", "Sharpness") else value


THEIRS = [
    (RandAugment(), TorchvisionRandAugment()),
    (
        RandAugment(magnitude=4, num_magnitude_bins=10),
        TorchvisionRandAugment(magnitude=4, num_magnitude_bins=10),
    ),
    (TrivialAugment(), TrivialAugmentWide()),
    *((AutoAugment(policy=p.value), TorchvisionAutoAugment(p)) for p in AutoAugmentPolicy),
]


@pytest.mark.parametrize(("ours", "theirs"), THEIRS, ids=lambda one: type(one).__name__)
def test_each_action_is_torchvisions(ours, theirs):
    actions = ours.actions(32, 32)
    images = photos(5)
    for image in images[:3]:
        batch = image.expand(len(actions), -1, -1, -1)
        draws = torch.nn.functional.pad(torch.arange(len(actions))[:, None, None], (0, 2))
        found = ours.apply(batch, draws)
        expected = torch.stack([by_torchvision(image, name, meant(name, value)) for name, value in actions])
        wrong = {actions[i] for i in (found != expected).flatten(1).any(1).nonzero().flatten()}
        assert not wrong


@pytest.mark.parametrize(("ours", "theirs"), THEIRS, ids=lambda one: type(one).__name__)
def test_draws_have_torchvisions_frequencies(ours, theirs, monkeypatch):
    """Every image its own draw; torchvision's, one call an image, are watched."""
    n, seen = 2000, []

    def watched(image: Any, name: str, magnitude: float, **_: Any) -> Any:
        seen[-1].append((name, round(magnitude, 4) + 0.0))
        return image

    monkeypatch.setattr(autoaugment, "_apply_op", watched)
    torch.manual_seed(0)
    for _ in range(n):
        seen.append([])
        theirs(torch.zeros(3, 32, 32, dtype=torch.uint8))
    actions = ours.actions(32, 32)
    found = [
        [(actions[i][0], meant(*actions[i])) for i in row if i] for row in drawn(ours, n)[..., 0].tolist()
    ]

    def rounded(name: str, magnitude: float) -> tuple[str, float]:
        if name in ("TranslateX", "TranslateY"):
            magnitude = int(magnitude)
        return name, round(magnitude, 2) + 0.0

    both = [Counter(rounded(*one) for row in rows for one in row) for rows in (found, seen)]
    pooled = [key for key, count in (both[0] + both[1]).items() if count >= 10]
    assert sum(both[0].values()) == pytest.approx(sum(both[1].values()), rel=0.05)
    table = [[counts[key] for key in pooled] for counts in both]
    assert stats.chi2_contingency(table).pvalue > 0.001
