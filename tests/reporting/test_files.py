"""Every finished line, or an error with its number."""

import pytest

from riskpo_jax.errors import UserError
from riskpo_jax.reporting.files import read_jsonl


def test_read_jsonl_leaves_out_an_unfinished_line(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert read_jsonl(path) == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize("line", ["{", "[1]", ""])
def test_read_jsonl_names_file_and_line(tmp_path, line):
    path = tmp_path / "m.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    with pytest.raises(UserError, match=r"m\.jsonl:2: not a JSON object"):
        read_jsonl(path)
