"""The check of the GPU path on a machine that has one: parity with the CPU, times, and the service itself."""
