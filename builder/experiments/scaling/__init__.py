"""Loss against model size and data size, with fitted power laws."""
