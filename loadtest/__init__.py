"""Load test: realistic scoring requests, sent in a closed loop and on a fixed schedule. Read README.md first."""
