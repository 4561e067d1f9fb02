"""Being seen: one value that answers every question, and the places it is read from."""
