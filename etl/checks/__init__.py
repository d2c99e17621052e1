"""What is checked of the values of a column."""
