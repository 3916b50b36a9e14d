"""Docker: instances are containers, images are the engine's own, everything by its API.

The only package that knows Docker's client library; the application imports it when it has chosen this driver.
"""

from muelle.engines.docker.engine import DockerEngine

__all__ = ["DockerEngine"]
