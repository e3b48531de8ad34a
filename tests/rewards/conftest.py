"""Real data files, where there are any."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data():
    """The folder of data files: $RISKPO_DATA, else ../shared/data beside the repository."""
    beside = Path(__file__).parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("RISKPO_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no data files: {folder} is no folder, set RISKPO_DATA to one")
    return folder
