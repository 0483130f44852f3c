"""Check of the GPU path on any machine with torch: parity, times, the service. `python -m loadtest.gpu_check --help`.

`parity.py` compares scores, `speed.py` and `history.py` measure times, `serving.py` starts the service, `report.py`
writes the page and the plot.
"""
