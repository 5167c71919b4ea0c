"""Ray Serve around a plain YOLO session, ``BENCH_WORKERS`` replicas."""

import os
import socket
import time


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


# HAProxy listens on two more ports, always the same ones; another cluster may have them.
os.environ["RAY_SERVE_HAPROXY_METRICS_PORT"], os.environ["RAY_SERVE_HAPROXY_STATS_PORT"] = free_port(), free_port()
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray  # noqa: E402
from plain_yolo import prepare, read, session  # noqa: E402
from ray import serve  # noqa: E402
from starlette.requests import Request  # noqa: E402


@serve.deployment(num_replicas=int(os.environ.get("BENCH_WORKERS", "1")), max_ongoing_requests=32)
class Yolo:
    def __init__(self) -> None:
        self.session = session()

    async def __call__(self, request: Request) -> dict:
        tensor, frame = prepare(await request.body())
        return {"results": read(self.session(tensor)[0], frame)}


keys = ("BENCH_MODEL", "BENCH_THREADS", "BENCH_ENGINE", "BENCH_PRECISION")
variables = {key: os.environ[key] for key in keys if key in os.environ}
here = os.path.dirname(os.path.abspath(__file__))
ray.init(
    address="local",
    num_cpus=4,
    include_dashboard=False,
    log_to_driver=False,
    runtime_env={"env_vars": {**variables, "PYTHONPATH": here}},
)
serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])})
serve.run(Yolo.bind(), route_prefix="/")
while True:
    time.sleep(1)
