"""What is fast, what it is compared with, and by how much."""
