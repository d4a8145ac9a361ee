"""Settings of the studio: the page, the live avatar and the HTTP API."""

from vasa_jax.settings import Settings, flag, number, section, text


@section
class StudioConfig(Settings):
    """The studio (job studio). What a file may hold is in config.limits."""

    host: str = text("127.0.0.1", "address to listen on; all but this machine's own need a key")
    port: int = number(7860, 0, 65535, "", "to listen on; 0 = a free one")
    open_page: bool = flag(True, "the page opens in this machine's browser, where a person at a screen starts it")
    names: tuple[str, ...] = text((), "other names under which browsers reach it, e.g. of a proxy")
    key_file: str = text("", "file with the API key; empty = $VASA_JAX_KEY, or no key on 127.0.0.1")
    connections: int = number(64, 4, 10_000, "connections", "at once; more are refused")
    head_seconds: float = number(10.0, 0.1, 600, "seconds", "that a request's head may take")
    upload: float = number(64.0, 0.01, 16_384, "MiB", "of one request")
    upload_seconds: float = number(120.0, 0.1, 3600, "seconds", "that sending one request may take")
    waiting: int = number(16, 1, 10_000, "jobs", "in the queue; more are refused")
    steps: int = number(50, 1, 1000, "steps", "of the solver, the most that a request may ask for")
    keep_hours: float = number(24.0, 0.001, 8760, "hours", "after which a finished job and its files are removed")
    live_sessions: int = number(1, 0, 64, "sessions", "of the live avatar at once; more are told that it is busy")
    live_minutes: float = number(30.0, 0.1, 1440, "minutes", "of one live session")
    live_steps: int = number(4, 1, 100, "steps", "of the solver in a live session")
    live_least_steps: int = number(2, 1, 100, "steps", "to which these are halved where motion costs too much")
    webrtc: bool = flag(True, "a live avatar can be played over WebRTC too, which opens UDP ports")
    udp_hosts: tuple[str, ...] = text((), "this machine's addresses for these ports; empty = host")
    ice: tuple[str, ...] = text((), "STUN and TURN servers, e.g. turn:turn.example.org:3478; empty = none")
    ice_secret_file: str = text("", "file with the secret shared with the TURN servers")
