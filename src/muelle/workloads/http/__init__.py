"""The native API of workloads: /api/v1/workloads, /api/v1/deployments and /api/v1/uploads."""

from muelle.workloads.http import logs, quotas, uploads, workloads

ROUTERS = (workloads.router, logs.router, quotas.router, uploads.router)
