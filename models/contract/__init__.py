"""What builder and service share: schema, records, artifacts, errors. Imports no torch."""
