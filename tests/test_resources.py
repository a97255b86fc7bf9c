"""GPUs as the driver reports them, without torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gridrun import doctor, resources
from gridrun.errors import LaunchError
from gridrun.executors.ray import session

H200, T4 = "NVIDIA H200", "Tesla T4"
TOOL = """#!/bin/sh
test "$1" = -L && cat <<END
GPU 0: NVIDIA H200 (UUID: GPU-aaaa-1)
  MIG 3g.71gb     Device  0: (UUID: MIG-cccc-3)
  MIG 1g.18gb     Device  1: (UUID: MIG-dddd-4)
GPU 1: Tesla T4 (UUID: GPU-bbbb-2)
END
"""
Seen = Callable[[str | None], list[str]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Return the GPUs that are seen with a value of CUDA_VISIBLE_DEVICES."""

    def seen(visible: str | None) -> list[str]:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        return resources.gpu_names.__wrapped__()

    return seen


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, model, uuid in (("0000:81:00.0", T4, "GPU-bbbb-2"), ("0000:17:00.0", H200, "GPU-aaaa-1")):
        (tmp_path / "gpus" / place).mkdir(parents=True)
        about = f"Model: \t\t {model}\nIRQ:   \t\t 93\nGPU UUID: \t {uuid}\nBus Type: \t PCIe\n"
        (tmp_path / "gpus" / place / "information").write_text(about)
    monkeypatch.setattr(resources, "_NVIDIA", tmp_path / "gpus")


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    path = tmp_path / "bin" / "nvidia-smi"
    path.write_text(TOOL)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setattr(resources, "_NVIDIA", tmp_path / "none")


@pytest.mark.parametrize("source", ["driver", "tool"])
def test_the_visible_gpus_are_named(source: str, seen: Seen, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(source)
    assert seen(None) == [H200, T4]
    assert seen("1") == [T4]
    assert seen("1, 0") == [T4, H200]
    assert seen("GPU-bbbb") == [T4]
    assert seen("0,-1,1") == seen("0,2,1") == seen("0,GPU-none,1") == [H200], "CUDA stops there"
    assert seen("") == seen("-1") == seen("NoDevFiles") == []


def test_parts_of_gpus_are_named_as_cuda_does(tool: None, seen: Seen) -> None:
    assert seen("MIG-dddd-4,MIG-cccc-3") == ["NVIDIA H200 MIG 1g.18gb", "NVIDIA H200 MIG 3g.71gb"]
    assert resources.num_parts() == 2


def test_without_a_driver_there_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> None:
    monkeypatch.setattr(resources, "_NVIDIA", tmp_path)
    monkeypatch.setenv("PATH", "")
    assert seen(None) == seen("0,1") == []


BF16, FP16 = {"mixed_bf16"}, {"mixed_fp16", "pure_fp16"}


@pytest.mark.parametrize(
    ("cpuinfo", "slow"),
    [
        ("model name\t: EPYC\nflags\t\t: fpu avx2 avx512f\n", BF16 | FP16),
        ("flags\t\t: fpu avx2 avx512f avx512_bf16 avx512_fp16\n", FP16),
        ("flags\t\t: fpu avx2 amx_bf16 amx_tile\n", FP16),
        ("flags\t\t: fpu avx2 amx_bf16 amx_fp16\n", set()),
        ("flags\t\t: \nbogomips\t: 4000\n", set()),
        ("Features\t: fp asimd bf16\n", set()),
        ("", set()),
    ],
)
def test_the_flags_of_a_cpu_say_which_precisions_are_slow(
    cpuinfo: str, slow: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(resources, "_CPUINFO", tmp_path / "cpuinfo")
    assert resources.slow_precisions.__wrapped__() == slow


def test_places_are_short() -> None:
    uuid = "MIG-7089d0f3-293f-58c9-8f8c-5ea666eedbde"
    assert [resources.gpu_label(name) for name in ("0", uuid)] == ["GPU 0", "MIG-7089d0f3"]


def test_gpus_that_torch_cannot_use_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "gpu_names", lambda: [H200])
    monkeypatch.setattr(resources, "torch_gpus", lambda: (0, "the driver is too old"))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    message = (
        r"^torch cannot use this machine's NVIDIA H200 \(the driver is too old\); --gpus 0 trains on CPUs$"
    )
    with pytest.raises(LaunchError, match=message):
        session._check_gpus(None)
    with pytest.raises(
        LaunchError, match=r"^--gpus 2: torch finds 0 on this machine \(the driver is too old\)$"
    ):
        session._check_gpus(2)
    session._check_gpus(0)
    finding = doctor._gpus()
    assert (finding.found, finding.ok) == (f"{H200}, which torch cannot use: the driver is too old", False)


def test_torch_says_why_it_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable() -> bool:
        import warnings

        warnings.warn("CUDA initialization: The NVIDIA driver on your system is too\nold", stacklevel=1)
        return False

    monkeypatch.setattr("torch.cuda.is_available", unavailable)
    monkeypatch.setattr("torch.version.cuda", "13.2")
    assert resources.torch_gpus() == (0, "CUDA initialization: The NVIDIA driver on your system is too old")
    monkeypatch.setattr("torch.version.cuda", None)
    assert resources.torch_gpus() == (0, "this torch is built for CPUs")


def test_ray_gives_out_the_visible_parts_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-cccc-3,MIG-dddd-4")
    monkeypatch.setattr(session, "_check_gpus", lambda wanted: None)
    ray_session = session.RaySession()
    ray_session.start(cpus=2, gpus=None)
    try:
        import ray

        def visible() -> str:
            import os

            return os.environ["CUDA_VISIBLE_DEVICES"]

        assert ray.cluster_resources()["GPU"] == 2
        given = ray.remote(num_gpus=1, num_cpus=1)(visible)
        assert ray.get(given.remote()) in ("MIG-cccc-3", "MIG-dddd-4")
    finally:
        ray_session.close()
