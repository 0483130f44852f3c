from pathlib import Path

from loadtest.machine import describe_cpu

CPUINFO = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
flags\t\t: fpu sse avx avx2 avx512f avx512bw

processor\t: 1
model name\t: another
"""


def test_a_cpu_is_named_with_what_tells_it_from_others_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(CPUINFO)
    assert describe_cpu(path) == "AMD EPYC (family 25, model 17, AVX-512)"
    path.write_text(CPUINFO.replace(" avx512f avx512bw", ""))
    assert describe_cpu(path).endswith("AVX2)")
    path.write_text("Features\t: asimd\n")
    assert describe_cpu(path) == describe_cpu(tmp_path / "missing")
