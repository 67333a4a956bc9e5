"""From stored rows to a table's cells, with their statistics and the thesis's values."""
