"""Planning without a cluster: JSON files in, a plan, what-ifs, purchases and frontiers out."""
