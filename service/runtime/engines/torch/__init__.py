"""The engine that scores item slots on a GPU, in three Triton kernels. The only part of the service with torch.

`weights.py` folds a plan for the kernels, `kernels.py` holds them, `eager.py` computes the same in plain torch,
`buffers.py` and `runs.py` launch either, `slots.py` keeps users' states in device memory, `engine.py` joins them.
"""
