"""An MCP server that gives the model of any client one tool: stateful Python, within the limits.

It speaks over stdin and stdout, to one client; the interpreter lasts as long as the server.
"""

import asyncio
from typing import Annotated

from mcp.server.mcpserver import MCPServer
from pydantic import Field

from sandbox.limits import Limits
from sandbox.pool import KernelPool
from sandbox.ports import Sandbox
from sandbox.result import for_model

PURPOSE = """Run Python in a stateful interpreter, as one cell of a notebook.

Variables, imports and files of earlier calls are there. What the code prints is returned, and the value
of its last expression. numpy, sympy and mpmath are loaded quickly. There is no network and no input();
a call that takes too long is interrupted, and the answer says whether the variables were kept."""


async def serve(limits: Limits) -> None:
    """Serve until the client closes stdin. Raises `IsolationError` where a required layer is missing."""
    async with KernelPool(limits) as pool, pool.lease() as sandbox:
        await server(sandbox, limits).run_stdio_async()


def server(sandbox: Sandbox, limits: Limits) -> MCPServer:
    """The server whose one tool runs on `sandbox`; a call that comes during another one waits."""
    made = MCPServer("sandbox", log_level="WARNING")
    turn = asyncio.Lock()

    @made.tool(description=PURPOSE, structured_output=False)
    async def python(
        code: Annotated[str, Field(description="the cell")],
        timeout_s: Annotated[
            float,
            Field(gt=0, le=limits.cell_timeout_s, description="seconds that it may take"),
        ] = limits.cell_timeout_s,
    ) -> str:
        async with turn:
            return for_model(await sandbox.execute(code, timeout_s), limits)

    return made
