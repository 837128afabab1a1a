"""The edges to Kubernetes: the client, the parsed objects, the stores, what is written."""
