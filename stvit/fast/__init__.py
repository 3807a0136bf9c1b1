"""Short cuts of inference on a CPU: the same results, sooner. One switch turns them all off.

    with stvit.fast.enabled(False):  # every layer computes what its class says, line by line
        logits = model(images)

``when``          where they are allowed
``groups``        a few images at a time, so that activations stay in the cache
``absorbed``      few queries look at many tokens without projecting keys and values
``token_linear``  linear layers for few tokens
"""

from stvit.fast.when import enabled

__all__ = ["enabled"]
