"""Files that are not on this machine: buckets, the Hub and web servers, all through fsspec.

`urls` tells addresses from paths and keeps secrets out of them, `storage` is the edge to fsspec, `ranged_files` reads a
file in parts, `block_cache` keeps parts on the disk. Data sources and the mirror of a run use these and nothing else.
"""
