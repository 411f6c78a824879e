from __future__ import annotations

import pytest

from tests.support import counted as counting


@pytest.fixture(scope="session")
def counted(tmp_path_factory: pytest.TempPathFactory) -> counting.Counted:
    """The library that counts."""
    return counting.build(tmp_path_factory.mktemp("counted"))
