"""All scenarios by family, in the order in which they run."""

from loadtest.chaos.cache_faults import CACHE_FAULTS
from loadtest.chaos.client_faults import CLIENT_FAULTS
from loadtest.chaos.generation_faults import GENERATION_FAULTS
from loadtest.chaos.grpc_faults import GRPC_FAULTS
from loadtest.chaos.process_faults import PROCESS_FAULTS
from loadtest.chaos.record_faults import RECORD_FAULTS
from loadtest.chaos.scenario import Scenario

SCENARIOS: tuple[Scenario, ...] = (
    *CACHE_FAULTS,
    *RECORD_FAULTS,
    *GENERATION_FAULTS,
    *PROCESS_FAULTS,
    *CLIENT_FAULTS,
    *GRPC_FAULTS,
)
