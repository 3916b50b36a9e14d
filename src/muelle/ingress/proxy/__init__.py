"""The built-in proxy: HTTP/1.1 in and out, in one process, at the speed of callbacks.

`server` listens and finds ways, `client` is a connection of a client, `upstream` one to a workload, `exchange` a
request between the two. `grammar`, `heads` and `bodies` say what the bytes mean, without I/O; `own` answers where
nobody else does; every bound stands in `limits`.
"""

from muelle.ingress.proxy.counters import Counters
from muelle.ingress.proxy.limits import Limits
from muelle.ingress.proxy.server import IngressPortTaken, Proxy

__all__ = ["Counters", "IngressPortTaken", "Limits", "Proxy"]
