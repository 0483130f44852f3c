"""What to build: TOML files read into frozen, validated dataclasses."""
