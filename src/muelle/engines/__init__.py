"""Engines: what runs workloads. So far only finding out what this machine offers."""
