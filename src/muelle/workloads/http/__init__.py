"""The native API of workloads: /api/v1/workloads, /api/v1/deployments and /api/v1/uploads."""

from muelle.workloads.http import hosts, logs, quotas, uploads, workloads
from muelle.workloads.http.exec import router as exec_router
from muelle.workloads.http.metrics import router as metrics_router

ROUTERS = (workloads.router, hosts.router, logs.router, quotas.router, uploads.router, exec_router, metrics_router)
