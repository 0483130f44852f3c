"""The shared library of C sources, for what numpy and ONNX Runtime are slow at. The service runs without it, too.

Every `*.c` file of this folder becomes a part of `libabsorb_native.so`. To add one:

1. Write plain C11 that includes `native.h`; mark what Python calls with `ABSORB_API`, and prefix it with `absorb_`.
   No function allocates, locks or calls back into Python: `ctypes` releases the interpreter's lock during a call.
2. If the file needs an instruction set, add its flags to `FLAGS` of `compile.py`, and call it only where
   `absorb_isa_supported` says so.
3. Raise `ABSORB_NATIVE_ABI` in `native.h` and `ABI` in `library.py` together when an existing function changes.
4. Bind it with `ctypes` in Python: `open_library().handle`, and set `argtypes` and `restype` of each function once.
"""
