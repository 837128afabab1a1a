"""The digital twin: the product's own decisions in virtual time, against simulated servers and a cluster."""
