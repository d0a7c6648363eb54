"""Whisper: Radford et al. 2023, transcribing 30 seconds of speech."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from remora.core.errors import BadValue
from remora.workloads.contract import Mode, Session, Work, Workload
from remora.workloads.language.decoding import DecodeSession
from remora.workloads.language.pretrained import PACKAGES, WEIGHT_STD, from_config
from remora.workloads.model_workload import BATCHES, ModelWorkload
from remora.workloads.optimizers import adamw
from remora.workloads.sessions import Batch
from remora.workloads.text import draw_tokens

_MEL_BANDS = 80


@dataclass(frozen=True)
class WhisperSizes:
    layers: int
    """Of the encoder, and as many of the decoder."""
    width: int
    heads: int
    frames: int = 3000
    """Log-mel frames of 10 ms."""
    vocabulary: int = 51865
    batch: int = 1
    sequence: int = 64
    """Tokens of the transcript; when decoding, those that begin it."""
    new_tokens: int = 0


@dataclass(eq=False)
class WhisperWorkload(ModelWorkload[WhisperSizes]):
    """Training on transcripts, scoring them (``forward``: logits), or decoding greedily.

    Decoding reads the sound once, when the session is built, as it reads the prompt.
    """

    packages: tuple[str, ...] = PACKAGES
    weight_std: float | None = WEIGHT_STD

    def network(self, sizes: WhisperSizes) -> torch.nn.Module:
        config = {
            "encoder_layers": sizes.layers,
            "decoder_layers": sizes.layers,
            "d_model": sizes.width,
            "encoder_attention_heads": sizes.heads,
            "decoder_attention_heads": sizes.heads,
            "encoder_ffn_dim": 4 * sizes.width,
            "decoder_ffn_dim": 4 * sizes.width,
            "vocab_size": sizes.vocabulary,
            "num_mel_bins": _MEL_BANDS,
            "max_source_positions": sizes.frames // 2,
            "pad_token_id": sizes.vocabulary - 1,
            "bos_token_id": sizes.vocabulary - 1,
            "eos_token_id": sizes.vocabulary - 1,
            "decoder_start_token_id": sizes.vocabulary - 2,
        }
        return from_config("WhisperConfig", "WhisperForConditionalGeneration", config)

    def batches(
        self, sizes: WhisperSizes, device: torch.device, seed: int, data: Path | None
    ) -> Sequence[Batch]:
        if data is not None:
            raise BadValue(f"{self.name} reads no local data; leave out --data")
        generator = torch.Generator().manual_seed(seed)
        shape = (BATCHES, sizes.batch, _MEL_BANDS, sizes.frames)
        sound = torch.randn(shape, generator=generator).to(device)
        ids = draw_tokens((BATCHES, sizes.batch, sizes.sequence), sizes.vocabulary - 2, seed)
        return [
            {"sound": heard, "ids": said} for heard, said in zip(sound, ids.to(device), strict=True)
        ]

    def apply(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        result: torch.Tensor
        if self.mode == "train":
            result = model(batch["sound"], labels=batch["ids"], use_cache=False).loss
        else:
            result = model(batch["sound"], decoder_input_ids=batch["ids"], use_cache=False).logits
        return result

    def work(self, sizes: WhisperSizes) -> Work:
        if self.mode == "decode":
            return Work(sizes.batch * sizes.new_tokens, "tokens")
        return Work(sizes.batch, "clips")

    def session(
        self,
        network: torch.nn.Module,
        sizes: WhisperSizes,
        device: torch.device,
        seed: int,
        data: Path | None,
    ) -> Session:
        if self.mode != "decode":
            return super().session(network, sizes, device, seed, data)
        batch = self.batches(sizes, device, seed, data)[0]
        with torch.no_grad():
            heard = network.eval().get_encoder()(batch["sound"])  # type: ignore[operator]
        return DecodeSession(
            network,
            batch["ids"],
            sizes.new_tokens,
            work=self.work(sizes),
            device=device,
            tokens_argument="decoder_input_ids",
            context={"encoder_outputs": heard},
        )


_FULL = {"whisper-tiny": WhisperSizes(4, 384, 6), "whisper-base": WhisperSizes(6, 512, 8)}
_QUICK = {
    "whisper-tiny": WhisperSizes(2, 128, 2, frames=800, vocabulary=4096, sequence=32),
    "whisper-base": WhisperSizes(3, 192, 3, frames=400, vocabulary=4096, sequence=32),
}
_MODES: dict[Mode, tuple[dict[str, int], int, str]] = {
    "train": ({"sequence": 64}, 16, "batch 16 as whisper-large in Tally (ASPLOS 2025)"),
    "forward": ({"sequence": 64}, 1, "batch 1"),
    "decode": ({"sequence": 4, "new_tokens": 16}, 1, "4 tokens of task prompt, 16 new, batch 1"),
}


def workloads() -> Iterator[Workload]:
    for model, full in _FULL.items():
        for mode, (step, batch, source) in _MODES.items():
            short = step if mode == "decode" else {}
            yield WhisperWorkload(
                model,
                mode,
                {
                    "quick": replace(_QUICK[model], **short),
                    "standard": replace(full, **step),
                    "paper": replace(full, batch=batch, **step),
                },
                f"Radford et al. (ICML 2023), table 1 and section 2.2; {source}; "
                "the transcript's length is ours",
                optimizer=adamw(lr=1e-4) if mode == "train" else None,
            )
