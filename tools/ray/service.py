"""The application that serve.yaml names: a front at the one address, and servers behind it."""

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig

from front import Front
from server import Server
from settings import Settings


def build(settings: Settings) -> Application:
    """Load is spread by queue length, as Ray does it: of two replicas chosen at random a request goes to
    the one with fewer under way. That number is what `/metrics` of `quarry serve` would say too, its running
    and waiting sequences, but it is known here at once and not at the next look."""
    scaling = AutoscalingConfig(
        min_replicas=settings.min_replicas, max_replicas=settings.max_replicas,
        **{"target_ongoing_requests": settings.slots, **settings.autoscaling})
    servers = serve.deployment(Server).options(
        # A server uses all cores of its node.
        max_replicas_per_node=1,
        max_ongoing_requests=settings.most_at_once(),
        max_queued_requests=settings.max_queue,
        graceful_shutdown_timeout_s=settings.grace,
        health_check_period_s=5,
        ray_actor_options={"num_cpus": settings.cpus},
        autoscaling_config=scaling.model_dump(exclude_unset=True))
    front = serve.deployment(Front).options(
        max_ongoing_requests=100_000,
        graceful_shutdown_timeout_s=settings.grace,
        # Beside the proxy that clients talk to: losing another node loses no front.
        ray_actor_options={"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}})
    return front.bind(servers.bind(settings))
