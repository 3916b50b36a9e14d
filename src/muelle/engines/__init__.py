"""Engines: what runs workloads. The protocol, and its drivers: docker, local, fake."""
