"""Models of the tiny recipe, trained once for all tests of the gate."""

import pytest
import torch

from tests.builder.gate.trainings import Trainings


@pytest.fixture(scope="session")
def trainings(tmp_path_factory: pytest.TempPathFactory):
    threads = torch.get_num_threads()
    yield Trainings(tmp_path_factory.mktemp("gate"))
    torch.set_num_threads(threads)
