"""Where tensors live and how arithmetic is kept repeatable."""

from __future__ import annotations

import os

import torch


def start_torch(threads: int) -> torch.device:
    """Fix the thread count and deterministic kernels; returns the device to compute on.

    `threads` comes from the study and not from --cores: the number of threads changes the last bits of sums.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
