"""Numbers that are measured at calls: which there are, and how each is called.

=========================  ===============================  =======================================
at calls of                number                           what it is
=========================  ===============================  =======================================
an optimizer's step        ``gradient norm``                of all parameters of the optimizer
                           ``gradient norm of net.0``       of those of one module
                           ``share of zero gradients``      parameters whose gradient is zero or
                                                            None, of those that require one
                           ``parameter norm``               after the step
                           ``update ratio``                 norm of what the step added to the
                                                            parameters, over their norm
                           ``learning rate of group 0``
                           ``loss of torch…cross_entropy``  the last one of this step
                           ``step``                         by how much this grew
a forward of a root module ``num_batches_tracked``          by how much it grew, where least
``LRScheduler.step``       ``last_epoch``                   by how much it grew
``GradScaler.update``      ``scale``                        after the call
=========================  ===============================  =======================================

Growth is told since the last call on the same thing, so that what is reset in between shows.
"""

from __future__ import annotations

from remora.check.calls import MODEL_FORWARD, OPTIMIZER_STEP

SCHEDULER_STEP = "torch.optim.lr_scheduler.LRScheduler.step"
SCALER_UPDATE = "torch.amp.GradScaler.update"

GRADIENT_NORM, PARAMETER_NORM, UPDATE = "gradient norm", "parameter norm", "update ratio"
ZERO_GRADIENTS = "share of zero gradients"
LEARNING_RATE, LOSS, SCALE = "learning rate", "loss", "scale"
STEPS, BATCHES, EPOCH = "step", "num_batches_tracked", "last_epoch"

AMOUNTS = {
    OPTIMIZER_STEP: (
        GRADIENT_NORM, PARAMETER_NORM, UPDATE, ZERO_GRADIENTS, LEARNING_RATE, LOSS,
    ),
    SCALER_UPDATE: (SCALE,),
}  # fmt: skip
"""By function, what is so much; a name may go on with `` of …``."""
COUNTERS = {OPTIMIZER_STEP: STEPS, MODEL_FORWARD: BATCHES, SCHEDULER_STEP: EPOCH}
"""By function, what it counts up."""

ELEMENTS = "self.elements"
"""How many elements an optimizer's parameters have: what tells one program's from another's."""

LOSSES = tuple(
    f"torch.nn.functional.{name}"
    for name in (
        "binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss",
        "cross_entropy", "ctc_loss", "gaussian_nll_loss", "hinge_embedding_loss", "huber_loss",
        "kl_div", "l1_loss", "margin_ranking_loss", "mse_loss", "multi_margin_loss",
        "multilabel_margin_loss", "multilabel_soft_margin_loss", "nll_loss", "poisson_nll_loss",
        "smooth_l1_loss", "soft_margin_loss", "triplet_margin_loss",
        "triplet_margin_with_distance_loss",
    )
)  # fmt: skip
"""Functions that return a loss."""


def of(number: str, what: str) -> str:
    return f"{number} of {what}"


def kind_of(name: str) -> str:
    """``gradient norm`` of ``gradient norm of net.0``: nothing else in a name has an `` of ``."""
    for kind in (*COUNTERS.values(), *(kind for each in AMOUNTS.values() for kind in each)):
        if name == kind or name.startswith(f"{kind} of "):
            return kind
    return name


def loss_of(name: str) -> str | None:
    """The function whose losses ``name`` is of."""
    return name.removeprefix(f"{LOSS} of ") if kind_of(name) == LOSS else None
