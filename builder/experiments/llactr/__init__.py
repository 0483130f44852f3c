"""What a language model's field vectors add, beside controls."""
