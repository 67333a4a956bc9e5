"""What is stored, how, and how far it is."""
