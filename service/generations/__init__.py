"""What serves now: follows the pointers, swaps artifact and keys together."""
