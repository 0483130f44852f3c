"""`python -m service.tools.keys`: make a client key and its hash for ABSORB_API_KEYS or ABSORB_ADMIN_KEYS."""

import hashlib
import secrets
import sys

KEY_BYTES = 32


def new_key() -> tuple[str, str]:
    """A random key, and its SHA-256 in hexadecimal digits."""
    key = secrets.token_urlsafe(KEY_BYTES)
    return key, hashlib.sha256(key.encode()).hexdigest()


if __name__ == "__main__":
    made, its_hash = new_key()
    sys.stdout.write(f"key (for the client):     {made}\nhash (for the settings):  {its_hash}\n")
