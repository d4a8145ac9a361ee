"""The web application: routes, the page's files, and the guard before all of them."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from fastapi import Body, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware import Middleware

import vasa_jax
from vasa_jax.conventions import EMOTIONS
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.driving import KEYPOINT_REGIONS, REGIONS
from vasa_jax.serving.answers import About, Fault, controls_told, described_fault
from vasa_jax.serving.forms import AskedDriving, AskedForm, names_of
from vasa_jax.serving.guard import COOKIE, Guard, cookie_of, same_secret
from vasa_jax.serving.live_routes import live_router
from vasa_jax.serving.live_sockets import sockets_router
from vasa_jax.serving.samples import samples_router
from vasa_jax.serving.studio import Studio
from vasa_jax.serving.videos import videos_router
from vasa_jax.serving.voices import Voices
from vasa_jax.settings import fields_of

PAGES = Path(__file__).parent / "pages"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def create_app(studio: Studio, key: str = "") -> FastAPI:
    """Returns the application of a studio; it starts and closes it. key: of the API, empty = none."""
    settings = studio.config.studio
    local = settings.host in LOOPBACK or settings.host == "::1"
    # This machine's own names are safe anywhere: nobody owns them. A container's health check asks for one.
    names = {*LOOPBACK, *settings.names, settings.host} if local or settings.names else ()
    guard = Middleware(
        Guard, key=key, names=names, largest=settings.upload * 2**20, seconds=settings.upload_seconds
    )

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        studio.start()
        yield
        studio.close()

    app = FastAPI(
        title="vasa_jax studio", version=vasa_jax.__version__, lifespan=lifespan, middleware=[guard],
        description="One portrait and speech become a talking-head video. Every video is marked as AI-generated.",
        docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json",
    )  # fmt: skip

    @app.exception_handler(RequestValidationError)
    def refused(request: Request, error: RequestValidationError) -> JSONResponse:
        """Answers as every other fault; the library's own answer repeats the input, and fails where that is NaN."""
        return JSONResponse(Fault(detail=described_fault(error)).model_dump(), 422)

    @app.get("/v1/health", tags=["server"])
    def health() -> dict[str, str]:
        """Tells that the server answers; needs no key."""
        return {"status": "ok"}

    @app.post("/v1/login", status_code=204, tags=["server"])
    def login(given: Annotated[str, Body(embed=True, max_length=1000, alias="key")], response: Response) -> None:
        """Gives the page a cookie for the key; programs send the header Authorization: Bearer KEY instead."""
        if not same_secret(given, key):
            raise HTTPException(401, "the key is wrong; ask who runs this server")
        response.set_cookie(COOKIE, cookie_of(key), httponly=True, samesite="strict", path="/")

    voices = Voices()
    driving = controls_told(AskedDriving, names_of(AskedDriving))
    if studio.generator.codec == "volume":
        driving = [item for item in driving if not item.help.startswith("keypoint codecs")]
        whole = [name for name in REGIONS if name not in KEYPOINT_REGIONS]
        driving = [item.model_copy(update={"choices": whole}) if item.name == "region" else item for item in driving]

    @app.get("/v1/about", tags=["server"])
    def about() -> About:
        """Tells what this server takes: limits, and every control with its range and unit."""
        return About(
            version=vasa_jax.__version__, size=studio.generator.image_size, upload=settings.upload,
            seconds=3600 * studio.config.limits.hours, steps=settings.steps, live_sessions=studio.live.most,
            controls=controls_told(Controls, fields_of(Controls), settings.steps),
            motion=driving, form=controls_told(AskedForm, names_of(AskedForm)), emotions=list(EMOTIONS),
            voices=voices.names, webrtc=settings.webrtc,
        )  # fmt: skip

    @app.get("/metrics", tags=["server"], response_class=Response)
    def metrics() -> Response:
        """Gives counts and times in Prometheus's text format."""
        studio.metrics.waiting.set(studio.store.count("waiting"))
        return Response(studio.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    app.include_router(videos_router(studio))
    app.include_router(live_router(studio))
    app.include_router(sockets_router(studio))
    app.include_router(samples_router(voices))
    app.mount("/", StaticFiles(directory=PAGES, html=True))
    return app
