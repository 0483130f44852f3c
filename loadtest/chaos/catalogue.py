"""All scenarios by family, in the order in which they run."""

from loadtest.chaos.faults.cache import CACHE_FAULTS
from loadtest.chaos.faults.client import CLIENT_FAULTS
from loadtest.chaos.faults.generation import GENERATION_FAULTS
from loadtest.chaos.faults.grpc import GRPC_FAULTS
from loadtest.chaos.faults.process import PROCESS_FAULTS
from loadtest.chaos.faults.record import RECORD_FAULTS
from loadtest.chaos.faults.worker import WORKER_FAULTS
from loadtest.chaos.scenario import Scenario

SCENARIOS: tuple[Scenario, ...] = (
    *CACHE_FAULTS,
    *RECORD_FAULTS,
    *GENERATION_FAULTS,
    *PROCESS_FAULTS,
    *CLIENT_FAULTS,
    *GRPC_FAULTS,
    *WORKER_FAULTS,
)
