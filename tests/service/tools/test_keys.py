"""Keys as a client and the service see them."""

import hashlib
import subprocess
import sys


def test_the_printed_hash_is_that_of_the_printed_key() -> None:
    command = [sys.executable, "-m", "service.tools.keys"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    key, key_hash = (line.rpartition(" ")[2] for line in done.stdout.splitlines())
    assert hashlib.sha256(key.encode()).hexdigest() == key_hash
