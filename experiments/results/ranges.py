"""The ranges of a setting's quantized weights before any training, found without reading a named data set."""

import jax
import numpy as np

from experiments.data import registry
from experiments.errors import blame
from experiments.setup import rounding
from experiments.setup.settings import Settings
from experiments.workdir import initial_weights
from qat import weights
from qat.lockstep import checks
from qat.policies import Begun


def initial(settings: Settings) -> dict[str, np.ndarray]:
    """Returns R of every quantized layer, in the unit of what is trained, as a run of this config begins with it.

    R is a scalar or, if the rule gives every channel its own, an array that broadcasts over the weight.

    Raises:
      UserError: the data set does not exist, the model does not take its images, the range is not made for its weights,
        or `init_from` names no weights of this architecture, or some of which a channel has no range.
    """
    config = settings.config
    task, key = registry.task(config, settings.model), jax.random.key(config.seed)
    shapes, model_state = jax.eval_shape(task.init, key)
    paths, policy = weights.select(shapes, settings.quantized(shapes).__contains__), rounding.range_policy(config)
    quantizer = settings.estimator.quantizer

    def begun(params) -> dict[str, Begun]:
        with blame(f'range={config.range}'):
            return {layer: policy.begin(weight, quantizer) for layer, weight in weights.get(params, paths).items()}

    if config.init_from:
        params, _ = initial_weights.read(config.init_from, (shapes, model_state))
        found = jax.device_get(begun(params))
        with blame(f'range={config.range}'):
            checks.ranges(
                {layer: each.R if each.step_size is None else each.step_size for layer, each in found.items()}
            )
    else:
        # The compiler drops the forward pass, because only the ranges are asked for. It runs once and needs no speed.
        once = {'compiler_options': {'xla_backend_optimization_level': 0}}
        found = jax.device_get(jax.jit(lambda key: begun(task.init(key)[0]), **once)(key))
    return {layer: each.R for layer, each in found.items()}
