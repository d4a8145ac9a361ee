"""An application behind uvicorn in a thread of this process, on a port of its own."""

import contextlib
import threading
import time

import uvicorn


@contextlib.contextmanager
def served(app, **settings):
    """Yields the server, which listens; settings are those of `uvicorn.Config`. Its address: `address_of`."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="critical", **settings))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server
    server.should_exit = server.force_exit = True
    thread.join(10)


def address_of(server):
    """Returns the host and port of a server that listens."""
    return server.servers[0].sockets[0].getsockname()
