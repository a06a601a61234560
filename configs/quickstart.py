"""Is DSQ an STE in disguise? The whole question on scikit-learn's handwritten digits, in about a minute on a CPU.

Command:  python -m experiments.train --config=configs/quickstart.py
Cost:     four runs in lockstep at three learning rates with five seeds each, 4,375 steps; a minute on two cores.
Result:   at this setting no: ste was 9.7 times as far from dsq as jitter, accuracy 0.9024 (dsq 0.8956);
          in the limit yes: its error over jitter's goes as the learning rate to the power 0.46 [0.28, 0.64].
"""

from configs import digits


def get_config():
    config = digits.get_config()
    config.name = 'quickstart'
    config.learning_rate = 0.04
    config.max_steps = 125  # as far as 0.01 gets in half of configs/digits.py
    config.twins = 'ste,naive_ste,jitter'
    config.eval_every_epochs = 2
    config.ladder = 3
    return config
