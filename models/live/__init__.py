"""Live events: what users did since the last build, and how their states follow. numpy and a handed-in cache client.

Builder and service share this room: a publish brings new records up to date, and a worker keeps them so.
"""
