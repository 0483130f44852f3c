"""`python -m builder`: the builder's command line."""

from builder.cli.main import main

if __name__ == "__main__":
    main()
