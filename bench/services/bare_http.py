"""The peer of GET /api/v1/me: one FastAPI route that answers an equal JSON model, on a server set up as ours is."""

from __future__ import annotations

import sys
from typing import Literal

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Me(BaseModel):
    id: str
    email: str
    name: str
    role: Literal["client", "admin"]
    state: Literal["active", "suspended"]
    session_id: str | None
    key_id: str | None
    scopes: list[str]


app = FastAPI()


@app.get("/me")
async def me() -> Me:
    return Me(
        id="0194a3f21b7c9d0e5f6a7b8c",
        email="ana@example.com",
        name="ana",
        role="client",
        state="active",
        session_id="0194a3f21b7c9d0e5f6a7b8d",
        key_id=None,
        scopes=["*"],
    )


if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=30,
    )
