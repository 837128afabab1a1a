"""An emulated fleet of model servers: real pods of a cluster without accelerators, simulated engines behind.

Every ready pod gets a simulated replica that runs in step with the clock and exports what vLLM exports.
"""
