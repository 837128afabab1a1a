"""What a developer measures."""
