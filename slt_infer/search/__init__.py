"""Finding a ticket in a source network. Only `module`, `batches` and `trainer` import torch."""
