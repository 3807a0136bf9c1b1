"""Frames out of a video file through PyAV, and which of them make a clip."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from stvit.extras import require


class VideoError(Exception):
    """A file that gives no frames, and why."""


def random_frames(total: int, length: int, interval: int) -> Tensor:
    """(length,) numbers of frames, ``interval`` apart, from a random place; a short video begins again."""
    start = torch.randint(max(total - (length - 1) * interval, 1), ())
    return (start + torch.arange(length) * interval) % total


def view_frames(total: int, length: int, interval: int, clips: int) -> Tensor:
    """(clips · length,) numbers of frames: clips from the middles of ``clips`` equal parts of the places to begin."""
    places = max(total - (length - 1) * interval, 1)
    starts = ((torch.arange(clips) + 0.5) * places / clips).long()
    return ((starts[:, None] + torch.arange(length) * interval) % total).flatten()


def fetch(path: Path, choose: Callable[[int], Tensor]) -> Tensor:
    """(n, 3, H, W) uint8: the frames whose numbers ``choose`` names when it is told how many there are."""
    av = pyav()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError("no video stream in it")
            stream = container.streams.video[0]
            total = stream.frames or _count(container, stream)
            if not total:
                raise VideoError("no frames in it")
            wanted = choose(total)
            return _decode(container, stream, wanted)
    except FileNotFoundError:
        raise VideoError("no such file") from None
    except (av.error.FFmpegError, OSError, ValueError, MemoryError) as error:
        raise VideoError(f"cannot be decoded: {str(error).splitlines()[0]}") from None


def _decode(container, stream, wanted: Tensor) -> Tensor:
    """Decode up to the last wanted frame; where a file holds fewer than it says, its last one stands in."""
    kept, names, last = {}, set(wanted.tolist()), int(wanted.max())
    frame, number = None, -1
    for number, frame in enumerate(container.decode(stream)):
        if number in names:
            kept[number] = _to_tensor(frame)
        if number == last:
            break
    if frame is None:
        raise VideoError("no frame could be decoded")
    ending = kept.get(number)
    return torch.stack(
        [
            kept[i] if i in kept else (ending if ending is not None else _to_tensor(frame))
            for i in wanted.tolist()
        ]
    )


def _to_tensor(frame) -> Tensor:
    return torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)  # (3, H, W)


def _count(container, stream) -> int:
    """Frames of a file whose header does not tell: its packets."""
    total = sum(packet.size > 0 for packet in container.demux(stream))
    container.seek(0)
    return total


def pyav():
    """The module ``av``; an ImportError says what to install."""
    return require("av", "reading videos")


def write_video(path: Path, frames: Tensor, rate: int = 8) -> Path:
    """(T, 3, H, W) uint8 as a file whose kind its name tells; height and width must be even."""
    av = pyav()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width = frames.shape[2:]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 8_000_000
        for frame in frames.permute(0, 2, 3, 1).contiguous().numpy():  # (H, W, 3) each
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path
