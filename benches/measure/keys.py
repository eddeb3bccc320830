"""Popularity: a stream of keys by Zipf's law, and what a plain LRU makes of it."""

import array
import itertools
import random
from collections import OrderedDict


def zipf(keys, length, exponent=1.0, seed=20260101):
    """The same stream at every call: key numbers, the most popular one 0."""
    weights = list(itertools.accumulate(1.0 / (rank + 1) ** exponent for rank in range(keys)))
    return array.array("I", random.Random(seed).choices(range(keys), cum_weights=weights, k=length))


def save(stream, path):
    """As the load generator reads it: 32-bit numbers, little endian."""
    import sys

    if sys.byteorder != "little":
        stream = array.array("I", stream)
        stream.byteswap()
    path.write_bytes(stream.tobytes())


def lru_hits(stream, capacity):
    """For each key of the stream whether an LRU of so many entries held it."""
    held = OrderedDict()
    hits = bytearray(len(stream))
    for place, key in enumerate(stream):
        if key in held:
            held.move_to_end(key)
            hits[place] = 1
        else:
            held[key] = None
            if len(held) > capacity:
                held.popitem(last=False)
    return hits
