"""What people are shown of a cluster: pure, from the objects as the API server lists them."""
