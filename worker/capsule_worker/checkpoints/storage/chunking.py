"""Where to cut bytes, such that equal parts of two versions become equal chunks. Pure.

A pickle is cut where its content says so: an insertion moves the cuts behind it, and the chunks there stay the same. A
buffer is cut in blocks, since what changes in an array stays in its place.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

#: Bytes of a buffer's block. A multiple of every page size in use, so that a block can be mapped.
BLOCK = 128 * 1024
#: Bytes of a pickle's chunk, at least and at most.
SHORTEST, LONGEST = 32 * 1024, 128 * 1024

#: Opcodes of the pickle protocol that come after or before most objects: MEMOIZE, BINFLOAT, BININT1, BININT2.
_CANDIDATE = re.compile(rb"[\x94GKM]")
#: How many bytes before a candidate decide, and how many candidates of which one is taken.
_WINDOW, _ONE_OF = 16, 128


def cuts(data: bytes | bytearray, *, last: bool) -> Iterator[tuple[int, int]]:
    """Yield start and end of each chunk of ``data``, as far as they are certain.

    Args:
        data: what follows the chunk before.
        last: whether nothing comes after ``data``; otherwise its end is left for the next call.
    """
    start, size = 0, len(data)
    while size - start > SHORTEST and (last or size - start >= LONGEST):
        stop = min(start + LONGEST, size)
        end = stop
        for match in _CANDIDATE.finditer(data, start + SHORTEST, stop):
            at = match.end()
            if not zlib.crc32(data[at - _WINDOW : at]) % _ONE_OF:
                end = at
                break
        yield start, end
        start = end
    if last and start < size:
        yield start, size


def blocks(size: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of each block of a buffer, in bytes.

    Args:
        size: bytes of the buffer.
    """
    for start in range(0, size, BLOCK):
        yield start, min(start + BLOCK, size)
