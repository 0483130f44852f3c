from pathlib import Path

import pytest

from models.errors import NotReadyError
from service.process import running_service


def test_a_service_that_ends_is_reported_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABSORB_MAX_CANDIDATES", "many")

    with (
        pytest.raises(NotReadyError, match=r"status 2:\nABSORB_MAX_CANDIDATES: got 'many'"),
        running_service(tmp_path / "logs" / "service.log"),
    ):
        pass
