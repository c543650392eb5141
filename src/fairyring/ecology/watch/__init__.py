"""Watching a world: as a scene, on the live page, or as a film."""

from fairyring.ecology.watch.live.server import serve
from fairyring.ecology.watch.living import LivingWorld
from fairyring.ecology.watch.scene import Frame
from fairyring.ecology.watch.video import film, write_video

__all__ = [
    "Frame",
    "LivingWorld",
    "film",
    "serve",
    "write_video",
]
