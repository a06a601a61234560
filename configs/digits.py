"""scikit-learn's handwritten digits (8x8): the whole question in under a minute on a laptop's CPU.

Command:  python -m experiments.train --config=configs/digits.py
Cost:     five runs in lockstep, 1,005 steps; about 20 seconds on two cores.
Result:   alignment error 0.0874 (naive_ste 0.3203, jitter 0.0257), accuracy 0.9461 (dsq 0.9461);
          at this setting no: ste was 7.1 times as far from dsq as jitter. In the limit: configs/quickstart.py.
"""

from configs import common


def get_config():
    config = common.get_config()
    config.name = 'digits'
    config.dataset = 'digits'
    config.batch_size = 100  # 15 steps an epoch
    config.estimator = 'dsq(k=6.5)'
    config.optimizer = 'sgd(momentum=0.9)'
    config.learning_rate = 0.01  # times 1,005 steps: about 10, as in the study of convergence
    config.num_epochs = 67
    config.eval_every_epochs = 5
    return config
