"""Images for search and inference: standard data sets and layouts, read from disk and never downloaded.

    images = load("fashion-mnist", split="test")
    inputs = preprocess(images.pixels, ticket.preprocessing, ticket.network.input)

docs/data.md says which names and layouts there are and where files are looked for.
"""

from slt_infer.data.images import Images, load_files
from slt_infer.data.preprocess import preprocess
from slt_infer.data.sets import NAMES, load, splits

__all__ = ["NAMES", "Images", "load", "load_files", "preprocess", "splits"]
