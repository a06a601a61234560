"""The names that `import qat` offers."""

from qat.auditing.audits import audit
from qat.auditing.latent import audit_layer
from qat.estimators import parse as estimator
from qat.lockstep.lockstep import Lockstep
from qat.lockstep.state import Moment
from qat.optimizers import parse as optimizer

__all__ = ['Lockstep', 'Moment', 'audit', 'audit_layer', 'estimator', 'optimizer']
