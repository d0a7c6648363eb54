"""What the pages on policy and goodput show is what one gets."""

from __future__ import annotations

import contextlib
import io

import pytest
from tests.docs.markdown import page


@pytest.mark.parametrize("name", ["docs/checkpoint-policy.md", "docs/goodput.md"])
def test_the_example_prints_what_is_shown(name: str) -> None:
    blocks = page(name).blocks
    (at,) = (index for index, block in enumerate(blocks) if block.language == "python")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(blocks[at].text, name, "exec"), {})
    assert printed.getvalue().strip() == blocks[at + 1].text.strip()
