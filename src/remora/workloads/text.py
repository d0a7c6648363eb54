"""Batches of tokens: drawn, or read from a text file."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import torch

from remora.core.errors import BadValue


def tokens(
    shape: tuple[int, ...], vocabulary: int, device: torch.device, seed: int, data: Path | None
) -> torch.Tensor:
    """Token ids of ``shape``, below ``vocabulary``: of the file ``data``, or drawn from ``seed``.

    Both are made on the host, so that they are the same on every device.
    """
    ids = (
        draw_tokens(shape, vocabulary, seed)
        if data is None
        else read_tokens(data, shape, vocabulary)
    )
    return ids.to(device)


def draw_tokens(shape: tuple[int, ...], vocabulary: int, seed: int) -> torch.Tensor:
    """Token ids whose frequencies fall as 1 / rank, as those of words do (Zipf's law)."""
    generator = torch.Generator().manual_seed(seed)
    exponent = torch.rand(shape, generator=generator, dtype=torch.float64)
    ranks = torch.exp(exponent * math.log(vocabulary)).long() - 1
    return ranks.clamp_(0, vocabulary - 1)


def read_tokens(path: Path, shape: tuple[int, ...], vocabulary: int) -> torch.Tensor:
    """The file's words in order, as token ids; a short file is read again from its beginning.

    A word's id is its rank by frequency in the file (ties: the earlier word first), as in the
    word-level vocabularies of WikiText; words beyond the vocabulary share its last id. Ranks keep
    the frequencies that embeddings and adaptive softmax meet in real use. Bytes would touch 256 of
    their rows, and hashes would give different words one id.

    Raises:
        BadValue: ``path`` is not a file of UTF-8 text with words in it.
    """
    ids = _ranks(_read_words(path), vocabulary)
    wanted = math.prod(shape)
    repeats = -(-wanted // len(ids))
    return torch.tensor(ids).repeat(repeats)[:wanted].reshape(shape)


def _read_words(path: Path) -> list[str]:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise BadValue(f"data {str(path)!r} {what}; a language model reads one UTF-8 text file")
    try:
        words = path.read_text(encoding="utf-8").split()
    except UnicodeDecodeError as error:
        raise BadValue(
            f"data {str(path)!r} is not UTF-8 text (byte {error.start}); "
            "convert it, or leave out --data"
        ) from error
    except OSError as error:
        raise BadValue(f"data {str(path)!r} cannot be read: {error.strerror}") from error
    if not words:
        raise BadValue(f"data {str(path)!r} has no words; give a text file, or leave out --data")
    return words


def _ranks(words: list[str], vocabulary: int) -> list[int]:
    ranks = {word: rank for rank, (word, _) in enumerate(Counter(words).most_common())}
    return [min(ranks[word], vocabulary - 1) for word in words]
