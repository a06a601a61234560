"""What is done to photographs on the device, apart from how they are read from the disk."""

import jax
import jax.numpy as jnp

_PIXEL_MEAN = (123.675, 116.28, 103.53)  # of ImageNet's training images, by channel
_PIXEL_DEVIATION = (58.395, 57.12, 57.375)


def normalize(images: jax.Array) -> jax.Array:
    """uint8 colour images, which travel to the device as they are -> float32, by channel of mean 0 and deviation 1."""
    return (images.astype(jnp.float32) - jnp.array(_PIXEL_MEAN)) / jnp.array(_PIXEL_DEVIATION)
