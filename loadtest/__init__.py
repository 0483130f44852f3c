"""Load tests: realistic requests in a closed loop and on a schedule, faults, other servers, GPUs. See README.md."""
