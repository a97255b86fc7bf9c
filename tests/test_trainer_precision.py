"""What a precision asks of a GPU and sets for it, as far as that shows without one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from trainer.precision import check_supported, set_matmul_precision

CUDA = torch.device("cuda")


def test_tf32_is_on_where_the_config_says_so_and_nowhere_else() -> None:
    for precision, is_on in (("tf32", True), ("fp32", False), ("tf32", True), ("mixed_bf16", False)):
        set_matmul_precision(precision)
        found = [torch._C._get_fp32_precision_getter("cuda", kind) for kind in ("matmul", "conv")]
        assert [mode == "tf32" for mode in found] == [is_on, is_on], "what CUDA's own code looks at"
        # what torch.compile looks at: this raises where torch's two ways to set it are mixed
        assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (is_on, is_on)
        with torch.backends.cudnn.flags(enabled=True):
            pass


@pytest.mark.parametrize(("major", "refused"), [(7, True), (8, False), (9, False)])
def test_bfloat16_is_for_gpus_that_compute_in_it(
    major: int, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=major))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    check_supported("mixed_fp16", CUDA)
    check_supported("mixed_bf16", torch.device("cpu"))
    if not refused:
        check_supported("mixed_bf16", CUDA)
        return
    with pytest.raises(RuntimeError, match="mixed_bf16 needs a GPU that computes in bfloat16, Tesla T4 does"):
        check_supported("mixed_bf16", CUDA)
