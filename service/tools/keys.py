"""`absorb keys`: make an API key, and its hash for ABSORB_API_KEYS or ABSORB_ADMIN_KEYS."""

import hashlib
import secrets

import typer

KEY_BYTES = 32

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def new_key() -> tuple[str, str]:
    """A random key, and its SHA-256 in hexadecimal."""
    key = secrets.token_urlsafe(KEY_BYTES)
    return key, hashlib.sha256(key.encode()).hexdigest()


@app.command(epilog="Exit code: 0.")
def keys() -> None:
    """Print a new API key for a client, and its hash for ABSORB_API_KEYS or ABSORB_ADMIN_KEYS. Stores neither.

    Example: absorb keys
    """
    key, key_hash = new_key()
    typer.echo(f"key (for the client):     {key}")
    typer.echo(f"hash (for the settings):  {key_hash}")


if __name__ == "__main__":
    app()
